"""Flag management does what its model says, whatever is asked in whatever order, and its past tells what it did.

The methods are called as a door calls them, bytes in and bytes out, over a real database.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.changes import PutSegment, RemoveSegment
from server.core.errors import NotFound, Refused, Stale
from tests.laws.managed_model import Config, Model
from tests.laws.managed_model import Refused as ModelRefused
from tests.laws.served import REFUSALS, Served
from tests.laws.sizes import LONG
from tests.store.definitions import put, segment

ENVIRONMENTS: Final = ["production", "staging"]
KEYS: Final = ("a", "b", "c", "d")
CHOICES: Final = st.integers(0, 11)
"""Which of the flags that exist; the last ones are a flag that does not."""

CHOICES_MAX: Final = 11
ABSENT: Final = "none"

PLACES: Final = st.sampled_from(ENVIRONMENTS)
VARIANTS: Final = st.sampled_from(["on", "off", "on", "off", "new", "none"])
RULES: Final = st.sampled_from(["r1", "r2", "r3"])
UNITS: Final = st.sampled_from(["ann", "bob"])
SEGMENTS: Final = st.sampled_from(["beta", "staff"])
PARTS: Final = st.sampled_from([0, 20_000, 100_000])


class Managed(RuleBasedStateMachine):
    """Every call goes to the model and to the service; they must agree on each."""

    def __init__(self) -> None:
        super().__init__()
        self._served = Served(self.kind, shop=True)
        self.model = Model(ENVIRONMENTS)
        self.revisions = dict.fromkeys(ENVIRONMENTS, 0)
        self.requests = 0

    kind = "sqlite"

    def teardown(self) -> None:
        """What the past says is what is there, and nobody touched the trail."""
        try:
            self._served.check_past("shop")
        finally:
            self._served.close()

    @initialize()
    def begin(self) -> None:
        """Revisions count from what there is."""
        self.revisions = self._revisions()
        for key in KEYS[:3]:
            self.create(0, {"production"})
            assert key in self.model.flags

    # Calls.

    def _chosen(self, choice: int) -> str:
        existing = sorted(self.model.flags)
        return existing[choice % len(existing)] if existing and choice < CHOICES_MAX else ABSENT

    def _existing_rule(self, place: str, key: str, name: str) -> str:
        """One of the flag's rules where it has some, else this one."""
        config = self.model.configs.get((place, key))
        names = [each for each, _, _ in config.rules] if config is not None else []
        return names[ord(name[-1]) % len(names)] if names else name

    @rule(choice=CHOICES, enabled_in=st.sets(PLACES))
    def create(self, choice: int, enabled_in: set[str]) -> None:
        """Create a flag everywhere."""
        absent = [key for key in KEYS if key not in self.model.flags]
        key = absent[choice % len(absent)] if absent else KEYS[choice % len(KEYS)]
        request = messages.CreateFlagRequest(project="shop", flag=messages.Flag(key=key), enabled_in=sorted(enabled_in))
        request.config.off_variant = "off"
        self._both(lambda model: model.create(key, sorted(enabled_in)), "CreateFlag", request)

    @rule(choice=CHOICES)
    @precondition(lambda self: len(self.model.flags) > 2)
    def delete(self, choice: int) -> None:
        """Delete a flag, archived or not."""
        key = self._chosen(choice)
        request = messages.DeleteFlagRequest(project="shop", key=key, force=True)
        self._both(lambda model: model.delete(key), "DeleteFlag", request)

    @rule(choice=CHOICES)
    def archive(self, choice: int) -> None:
        """Archive a flag."""
        key = self._chosen(choice)
        self._both(
            lambda model: model.archive(key), "ArchiveFlag", messages.ArchiveFlagRequest(project="shop", key=key)
        )

    @rule(choice=CHOICES)
    def restore(self, choice: int) -> None:
        """Restore a flag."""
        key = self._chosen(choice)
        self._both(
            lambda model: model.restore(key), "RestoreFlag", messages.RestoreFlagRequest(project="shop", key=key)
        )

    @rule(choice=CHOICES, owner=st.sampled_from(["web", "app"]))
    def set_owner(self, choice: int, owner: str) -> None:
        """Set a shared field."""
        key = self._chosen(choice)
        flag = messages.Flag(key=key, owner=owner)
        request = messages.UpdateFlagRequest(project="shop", flag=flag, update_mask=FieldMask(paths=["owner"]))
        self._both(lambda model: model.set_owner(key, owner), "UpdateFlag", request)

    @rule(choice=CHOICES, variant=VARIANTS, value=st.booleans())
    def put_variant(self, choice: int, variant: str, value: bool) -> None:
        """Add a variant."""
        key = self._chosen(choice)
        put_ = [messages.Variant(key=variant, value=messages.VariantValue(bool_value=value))]
        request = messages.SetVariantsRequest(project="shop", key=key, put=put_)
        self._both(lambda model: model.put_variant(key, variant, value), "SetVariants", request)

    @rule(choice=CHOICES, variant=VARIANTS)
    def remove_variant(self, choice: int, variant: str) -> None:
        """Take a variant away."""
        key = self._chosen(choice)
        request = messages.SetVariantsRequest(project="shop", key=key, remove=[variant])
        self._both(lambda model: model.remove_variant(key, variant), "SetVariants", request)

    @rule(place=PLACES, choice=CHOICES, enabled=st.booleans())
    def set_enabled(self, place: str, choice: int, enabled: bool) -> None:
        """Turn a flag on or off."""
        key = self._chosen(choice)
        kind, method = (
            (messages.EnableFlagsRequest, "EnableFlags") if enabled else (messages.DisableFlagsRequest, "DisableFlags")
        )
        request = kind(project="shop", environment=place, keys=[key])
        self._both(lambda model: model.set_enabled(place, key, enabled), method, request)

    @rule(place=PLACES, choice=CHOICES, unit=UNITS, variant=VARIANTS)
    def add_target(self, place: str, choice: int, unit: str, variant: str) -> None:
        """Give a unit a variant."""
        key = self._chosen(choice)
        request = messages.SetTargetsRequest(
            project="shop", environment=place, key=key, add=[messages.Target(variant=variant, keys=[unit])]
        )
        self._both(lambda model: model.set_target(place, key, unit, variant), "SetTargets", request)

    @rule(place=PLACES, choice=CHOICES, unit=UNITS)
    def remove_target(self, place: str, choice: int, unit: str) -> None:
        """Take a unit's target away."""
        key = self._chosen(choice)
        request = messages.SetTargetsRequest(project="shop", environment=place, key=key, remove=[unit])
        self._both(lambda model: model.remove_target(place, key, unit), "SetTargets", request)

    @rule(place=PLACES, choice=CHOICES, name=RULES, variant=VARIANTS, parts=PARTS, needed=st.none() | SEGMENTS)
    def add_rule(self, place: str, choice: int, name: str, variant: str, parts: int, needed: str | None) -> None:
        """Add a rule."""
        key = self._chosen(choice)
        request = messages.AddRuleRequest(
            project="shop", environment=place, key=key, rule=_rule(name, variant, parts, needed)
        )
        self._both(lambda model: model.add_rule(place, key, (name, variant, parts), needed), "AddRule", request)

    @rule(place=PLACES, choice=CHOICES, name=RULES, variant=VARIANTS, parts=PARTS)
    def replace_rule(self, place: str, choice: int, name: str, variant: str, parts: int) -> None:
        """Replace a rule."""
        key = self._chosen(choice)
        name = self._existing_rule(place, key, name)
        request = messages.ReplaceRuleRequest(
            project="shop", environment=place, key=key, rule=_rule(name, variant, parts, None)
        )
        self._both(lambda model: model.replace_rule(place, key, (name, variant, parts)), "ReplaceRule", request)

    @rule(place=PLACES, choice=CHOICES, name=RULES)
    def remove_rule(self, place: str, choice: int, name: str) -> None:
        """Remove a rule."""
        key = self._chosen(choice)
        name = self._existing_rule(place, key, name)
        request = messages.RemoveRuleRequest(project="shop", environment=place, key=key, rule_id=name)
        self._both(lambda model: model.remove_rule(place, key, name), "RemoveRule", request)

    @rule(place=PLACES, choice=CHOICES, needed_choice=st.none() | CHOICES, variant=VARIANTS)
    def require(self, place: str, choice: int, needed_choice: int | None, variant: str) -> None:
        """Set or clear the prerequisite."""
        key = self._chosen(choice)
        # Seldom itself, which is a circle.
        needed = None if needed_choice is None else self._chosen((choice + 1 + needed_choice) % (CHOICES_MAX + 1))
        listed = [] if needed is None else [messages.Prerequisite(flag_key=needed, variants=[variant])]
        request = messages.SetPrerequisitesRequest(project="shop", environment=place, key=key, prerequisites=listed)
        self._both(lambda model: model.require(place, key, needed, variant), "SetPrerequisites", request)

    @rule(choice=CHOICES, origin=PLACES)
    def copy(self, choice: int, origin: str) -> None:
        """Copy a configuration to the other environment."""
        key = self._chosen(choice)
        (place,) = set(ENVIRONMENTS) - {origin}
        request = messages.CopyFlagConfigsRequest(
            project="shop", environment=place, from_environment=origin, keys=[key]
        )
        self._both(lambda model: model.copy_config(origin, place, key), "CopyFlagConfigs", request)

    @rule(place=PLACES, name=SEGMENTS)
    def put_segment(self, place: str, name: str) -> None:
        """Create a segment."""
        put(self._served.engine, PutSegment(segment(name, {"==": [{"var": "plan"}, name]})), environment=place)
        self.model.put_segment(place, name)

    @rule(place=PLACES, name=SEGMENTS)
    def remove_segment(self, place: str, name: str) -> None:
        """Remove a segment."""
        refused = self._tried(lambda model: model.remove_segment(place, name))
        try:
            put(self._served.engine, RemoveSegment(name), environment=place)
            assert not refused
        except REFUSALS:
            assert refused

    # What every call is also held to.

    @rule(choice=CHOICES)
    def stale_writes_are_refused(self, choice: int) -> None:
        """A writer who read an older version is refused, and nothing moves."""
        key = self._chosen(choice)
        flag = messages.Flag(key=key, owner="stale")
        request = messages.UpdateFlagRequest(project="shop", flag=flag, update_mask=FieldMask(paths=["owner"]))
        request.options.expected_version = 10**9
        with pytest.raises((Stale, NotFound, Refused)):
            self._call("UpdateFlag", request)

    def _both(self, change: Callable[[Model], None], method: str, request: Any) -> None:
        """Try it, do it, and say it again: only the second of these may change anything."""
        before = self.model.copy()
        refused = self._tried(change)
        self.requests += 1
        tried = type(request)()
        tried.CopyFrom(request)
        tried.options.dry_run = True
        request.options.request_id = f"request-{self.requests}"
        revisions = self._revisions()
        outcomes = [self._outcome(method, tried)]
        assert revisions == self._revisions()
        outcomes.append(self._outcome(method, request))
        changed = self._revisions()
        outcomes.append(self._outcome(method, request))

        assert changed == self._revisions()
        assert all(revisions[name] <= changed[name] for name in ENVIRONMENTS)
        assert outcomes[1] == outcomes[2]
        if refused:
            assert ["refused"] * 3 == outcomes
            assert revisions == changed
        elif before == self.model:
            assert ["unchanged"] * 3 == outcomes
            assert revisions == changed
        else:
            assert ["would apply", "applied", "applied"] == outcomes
            assert revisions != changed
        self.revisions = changed

    def _tried(self, change: Callable[[Model], None]) -> bool:
        """Make the change to the model; whether it is refused."""
        changed = self.model.copy()
        try:
            change(changed)
        except ModelRefused:
            return True
        self.model = changed
        return False

    def _outcome(self, method: str, request: Any) -> str:
        try:
            result = self._call(method, request).result
        except REFUSALS:
            return "refused"
        return common.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower().replace("_", " ")

    def _call(self, method: str, request: Any) -> Any:
        name = messages.DESCRIPTOR.services_by_name["FlagService"].methods_by_name[method].output_type.name
        return self._served.call(f"/flagstaff.v1.FlagService/{method}", getattr(messages, name), request)

    def _revisions(self) -> dict[str, int]:
        return {name: revision for (_, name), revision in self._served.revisions().items()}

    @invariant()
    def the_service_has_what_the_model_has(self) -> None:
        """Every flag of every environment, as it is told."""
        request = messages.ListFlagsRequest(project="shop", with_configs=True)
        request.filter.archived = messages.FlagFilter.ARCHIVED_INCLUDED
        listed = self._call("ListFlags", request)

        assert sorted(self.model.flags) == [each.flag.key for each in listed.flags]
        for each in listed.flags:
            shared = self.model.flags[each.flag.key]
            assert shared.variants == {one.key: one.value.bool_value for one in each.flag.variants}
            assert (shared.owner, shared.archived) == (each.flag.owner, each.flag.HasField("archived_at"))
            assert {name: self.model.configs[name, each.flag.key] for name in ENVIRONMENTS} == {
                config.environment: _config(config) for config in each.configs
            }


def _rule(name: str, variant: str, parts: int, needed: str | None) -> messages.Rule:
    rule_ = messages.Rule(id=name, serve=messages.Serve(variant=variant), share=messages.Share(parts=parts))
    if needed is not None:
        rule_.condition.CopyFrom(Value(struct_value=_reference(needed)))
    return rule_


def _reference(key: str) -> Struct:
    reference = Struct()
    reference.update({"$ref": key})
    return reference


def _config(config: messages.FlagConfig) -> Config:
    """A configuration as the model has it."""
    return Config(
        enabled=config.enabled,
        off=config.off_variant if config.HasField("off_variant") else None,
        default=config.default_serve.variant if config.HasField("default_serve") else None,
        targets={key: target.variant for target in config.targets for key in target.keys},
        rules=[(each.id, each.serve.variant, each.share.parts) for each in config.rules],
        requires={each.flag_key: each.variants[0] for each in config.prerequisites},
        segments={
            each.id: str(each.condition.struct_value["$ref"]) for each in config.rules if each.HasField("condition")
        },
    )


class ManagedOnPostgres(Managed):
    """The same on the other kind of database."""

    kind = "postgresql"


SETTINGS: Final = settings(
    max_examples=300 if LONG else 10,
    stateful_step_count=50 if LONG else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestManaged = Managed.TestCase
TestManaged.settings = SETTINGS
TestManagedOnPostgres = ManagedOnPostgres.TestCase
TestManagedOnPostgres.settings = SETTINGS
