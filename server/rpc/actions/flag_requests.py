"""Say which requests the actions on flags and segments come to."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import segments_pb2 as segments
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound, Problem
from server.core.json import Json
from server.rpc.actions.doing import Doing, Request

PARTS_PER_PERCENT: Final = 1_000
ROLLOUT_RULE: Final = "rollout"
"""The rule that is added where a share is set and no rule has one."""

_SHARED: Final = ("description", "owner", "tags", "kind", "temporary", "expected_lifetime_days")


async def set_flag_state(doing: Doing) -> Request:
    """A switch in one environment."""
    given = doing.given
    method, message = (
        ("EnableFlags", flags.EnableFlagsRequest) if given["enabled"] else ("DisableFlags", flags.DisableFlagsRequest)
    )
    request = message(
        project=doing.project, environment=doing.environment, keys=[given["flag_key"]], options=doing.options()
    )
    return Request(f"FlagService/{method}", request)


async def kill_flag(doing: Doing) -> Request:
    """Off, in one environment or in all."""
    url = doing.given.get("incident_url", "")
    request = flags.KillFlagsRequest(
        project=doing.project,
        environment=doing.environment,
        keys=[doing.given["flag_key"]],
        everywhere=not doing.environment,
        options=doing.options(**({"cause": url} if url else {})),
    )
    return Request("FlagService/KillFlags", request)


async def set_rollout_share(doing: Doing) -> Request:
    """A rule with another share, at the version at which it was read; or a new rule that has one."""
    given = doing.given
    parts = round(given["percent"] * PARTS_PER_PERCENT)
    asked = Request(
        "FlagService/GetFlag",
        flags.GetFlagRequest(project=doing.project, environment=doing.environment, key=given["flag_key"]),
    )
    found = await doing.ask(asked)
    (config,) = found.configs
    # Whoever named no version means the one that is there now: nothing in between is written over.
    options = doing.options(expected_version=doing.wanted.expected_version or config.version)
    here = {"project": doing.project, "environment": doing.environment, "key": given["flag_key"], "options": options}
    rule = _rule(config, given)
    if rule is None:
        return Request("FlagService/AddRule", flags.AddRuleRequest(rule=_new_rule(given, parts), **here))
    changed = flags.Rule()
    changed.CopyFrom(rule)
    changed.share.parts = parts
    # What the clock was to do with it is overruled.
    del changed.share.steps[:]
    if given.get("variant"):
        changed.serve.Clear()
        changed.serve.variant = given["variant"]
    return Request("FlagService/ReplaceRule", flags.ReplaceRuleRequest(rule=changed, **here))


def _rule(config: Any, given: Mapping[str, Json]) -> Any:
    """The rule that is meant; None where one is to be added. Errors: NotFound, InvalidRequest."""
    wanted = given.get("rule_id") or ""
    named = [rule for rule in config.rules if rule.id == wanted]
    if named:
        return named[0]
    shared = [rule for rule in config.rules if rule.HasField("share")]
    if not wanted and len(shared) == 1:
        return shared[0]
    if not wanted and len(shared) > 1:
        names = ", ".join(rule.id for rule in shared)
        raise InvalidDefinition([Problem("/rule_id", f"several rules have a share; say which: {names}")])
    if given.get("variant"):
        return None
    if wanted:
        raise NotFound(f"flag {given['flag_key']!r} has no rule {wanted!r}; with `variant` one is added")
    raise InvalidDefinition([Problem("/variant", "no rule has a share yet; say which variant a share is served")])


def _new_rule(given: Mapping[str, Json], parts: int) -> Any:
    return flags.Rule(
        id=given.get("rule_id") or ROLLOUT_RULE,
        share=flags.Share(parts=parts),
        serve=flags.Serve(variant=given["variant"]),
    )


async def create_flag(doing: Doing) -> Request:
    """A flag with its variants."""
    given = doing.given
    flag = _flag(given)
    flag.variants.extend(
        flags.Variant(key=key, value=_value(value, f"/variants/{key}", given.get("type", "")))
        for key, value in (given.get("variants") or {}).items()
    )
    if given.get("type"):
        flag.type = evaluation.ValueType.Value(f"VALUE_TYPE_{given['type'].upper()}")
    config = flags.FlagConfig()
    if given.get("off_variant"):
        config.off_variant = given["off_variant"]
    if given.get("default_variant"):
        config.default_serve.variant = given["default_variant"]
    request = flags.CreateFlagRequest(
        project=doing.project,
        flag=flag,
        # Without it a flag serves as its variants have it.
        config=config if config.ByteSize() else None,
        environments=given.get("environments") or (),
        enabled_in=given.get("enabled_in") or (),
        options=doing.options(),
    )
    return Request("FlagService/CreateFlag", request)


async def update_flag(doing: Doing) -> Request:
    """The fields that were given."""
    named = [name for name in _SHARED if name in doing.given]
    if not named:
        raise InvalidRequest(f"update_flag needs what is to be set, of: {', '.join(_SHARED)}")
    request = flags.UpdateFlagRequest(
        project=doing.project,
        flag=_flag(doing.given),
        update_mask=FieldMask(paths=named),
        options=doing.options(),
    )
    return Request("FlagService/UpdateFlag", request)


async def archive_flag(doing: Doing) -> Request:
    """Out of use."""
    request = flags.ArchiveFlagRequest(project=doing.project, key=doing.given["flag_key"], options=doing.options())
    return Request("FlagService/ArchiveFlag", request)


async def restore_flag(doing: Doing) -> Request:
    """In use again."""
    request = flags.RestoreFlagRequest(project=doing.project, key=doing.given["flag_key"], options=doing.options())
    return Request("FlagService/RestoreFlag", request)


async def update_segment(doing: Doing) -> Request:
    """Keys that come, or else keys that go; where both are asked for, those that come were put in before."""
    add, remove = doing.given.get("add") or [], doing.given.get("remove") or []
    if not add and not remove:
        raise InvalidRequest("update_segment needs keys to add or to remove")
    if add and remove:
        await doing.ask(_keys(doing, "AddSegmentKeys", add, part=":add"))
        return _keys(doing, "RemoveSegmentKeys", remove, part=":remove")
    return _keys(doing, "AddSegmentKeys" if add else "RemoveSegmentKeys", add or remove)


def _keys(doing: Doing, method: str, keys: list[str], *, part: str = "") -> Request:
    request_id = doing.wanted.request_id
    message = segments.ChangeSegmentKeysRequest(
        project=doing.project,
        environment=doing.environment,
        key=doing.given["segment_key"],
        keys=keys,
        last=True,
        options=doing.options(request_id=f"{request_id}{part}" if request_id else ""),
    )
    return Request(f"SegmentService/{method}", message)


def _flag(given: Mapping[str, Json]) -> Any:
    flag = flags.Flag(
        key=given["flag_key"],
        description=given.get("description", ""),
        owner=given.get("owner", ""),
        tags=given.get("tags") or (),
    )
    if "kind" in given:
        flag.kind = flags.FlagKind.Value(f"FLAG_KIND_{given['kind'].upper()}")
    if "temporary" in given:
        flag.temporary = given["temporary"]
    if "expected_lifetime_days" in given:
        flag.expected_lifetime_days = int(given["expected_lifetime_days"])
    return flag


def _value(value: Json, path: str, type_: str) -> Any:
    match value:
        case bool():
            return flags.VariantValue(bool_value=value)
        case str():
            return flags.VariantValue(string_value=value)
        # JSON's numbers arrive over gRPC as doubles: what is whole is meant as such, unless somebody says otherwise.
        case int() | float() if type_ == "float" or not float(value).is_integer():
            return flags.VariantValue(double_value=value)
        case int() | float():
            return flags.VariantValue(int_value=int(value))
        case dict():
            held = Struct()
            held.update(value)
            return flags.VariantValue(object_value=held)
    raise InvalidDefinition([Problem(path, "expected a boolean, a text, a number or an object")])
