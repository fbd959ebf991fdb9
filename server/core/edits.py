"""Edit one part of a flag, so that two who edit different parts do not undo each other's work.

An edit says what is to change and is applied to the flag as it stands at that moment. What comes out is checked as a
whole by the commit, as every definition is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeAlias, assert_never

from server.core.errors import Conflict, InvalidRequest, NotFound, Problem, Refused
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, Rule, Serve, Target
from server.core.json import Json
from server.core.json_order import as_stored
from server.core.salts import keep_salts
from server.core.timelines import settled

FLAG_FIELDS: Final = frozenset(
    {"variants", "description", "kind", "temporary", "expected_lifetime_days", "owner", "tags", "links", "metadata"}
)
"""Fields of a Flag that UpdateFlag may set; its type is for ever, since applications ask for it."""

CONFIG_FIELDS: Final = frozenset(
    {"enabled", "off_variant", "targets", "prerequisites", "rules", "default", "targeting", "lenient"}
)
"""Fields of a FlagConfig that UpdateConfig may set."""

NAMES_SHOWN_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class SetEnabled:
    """Turn a flag on or off in this environment."""

    key: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class SetOffVariant:
    """Choose what is served while the flag is off; None leaves it to the caller."""

    key: str
    variant: str | None


@dataclass(frozen=True, slots=True)
class SetDefault:
    """Choose what is served when nothing else matched; None leaves it to the caller. A split keeps its salt."""

    key: str
    serve: Serve | None
    rerandomise: bool = False


@dataclass(frozen=True, slots=True)
class SetPrerequisites:
    """Replace all prerequisites."""

    key: str
    prerequisites: tuple[Prerequisite, ...]


@dataclass(frozen=True, slots=True)
class SetTargets:
    """Add individual targets, or take some away; one that is added leaves the variant that it had."""

    key: str
    add: tuple[Target, ...] = ()
    remove: tuple[str, ...] = ()
    """Targeting keys; those that are no targets are passed over."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rule stands: before or behind another one, by its id; at the end when neither is said."""

    before: str = ""
    after: str = ""


AT_THE_END: Final = Position()


@dataclass(frozen=True, slots=True)
class AddRule:
    """Add a rule; its id must be new to the flag."""

    key: str
    rule: Rule
    position: Position = AT_THE_END


@dataclass(frozen=True, slots=True)
class ReplaceRule:
    """Replace the rule of the same id, where it stands.

    The salts stay: they decide who is in. `rerandomise` allows the rule to bring others.
    """

    key: str
    rule: Rule
    rerandomise: bool = False


@dataclass(frozen=True, slots=True)
class RemoveRule:
    """Take a rule away."""

    key: str
    rule_id: str


@dataclass(frozen=True, slots=True)
class MoveRule:
    """Put a rule elsewhere among the others."""

    key: str
    rule_id: str
    position: Position


@dataclass(frozen=True, slots=True)
class ReorderRules:
    """Put all rules into another order; each of them must be named once."""

    key: str
    rule_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """Set the named fields of the configuration to those of another one. Salts stay, as for ReplaceRule."""

    key: str
    config: FlagConfig
    fields: tuple[str, ...]
    rerandomise: bool = False


@dataclass(frozen=True, slots=True)
class UpdateFlag:
    """Set the named fields of what all environments share to those of another flag."""

    key: str
    flag: Flag
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetVariants:
    """Add variants or give them other values, and take some away; in all environments."""

    key: str
    put: Mapping[str, Json] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArchiveFlag:
    """Turn a flag off in all environments, and let nobody edit it until it is restored.

    Refused while a flag that is not archived requires it.
    """

    key: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RestoreFlag:
    """Bring an archived flag back, as it was."""

    key: str


@dataclass(frozen=True, slots=True)
class SettleTimeline:
    """Take as written what the clock made of a flag by an instant; no answer changes."""

    key: str
    at: datetime


FlagEdit: TypeAlias = (
    SetEnabled
    | SetOffVariant
    | SetDefault
    | SetPrerequisites
    | SetTargets
    | AddRule
    | ReplaceRule
    | RemoveRule
    | MoveRule
    | ReorderRules
    | UpdateConfig
    | SettleTimeline
    | UpdateFlag
    | SetVariants
    | ArchiveFlag
    | RestoreFlag
)


def edit(
    stored: FlagDefinition, change: FlagEdit, *, flags: Mapping[str, FlagDefinition]
) -> tuple[FlagDefinition, Sequence[Problem]]:
    """The flag after an edit, and a problem for each salt that it tries to change; `flags` are all of the set.

    Errors: NotFound, naming what is there; Conflict when a rule is there already; InvalidRequest; Refused for an
    archived flag, or for one that others require.
    """
    _check_editable(stored, change)
    edited = as_stored(stored, _edited(stored, change, flags))
    keeps_salts = isinstance(change, ReplaceRule | SetDefault | UpdateConfig) and not change.rerandomise
    return keep_salts(stored, edited) if keeps_salts else (edited, ())


def _edited(stored: FlagDefinition, change: FlagEdit, flags: Mapping[str, FlagDefinition]) -> FlagDefinition:  # noqa: PLR0912  (one line for each kind of edit)
    config = stored.config
    match change:
        case SetEnabled(_, enabled):
            config = replace(config, enabled=enabled)
        case SetOffVariant(_, variant):
            config = replace(config, off_variant=variant)
        case SetDefault(_, serve):
            config = replace(config, default=serve)
        case SetPrerequisites(_, prerequisites):
            _check_prerequisites(stored, prerequisites, flags)
            config = replace(config, prerequisites=prerequisites)
        case SetTargets():
            config = replace(config, targets=_targets(stored, change))
        case AddRule(key, rule, position):
            if any(each.id == rule.id for each in config.rules):
                raise Conflict(f"rule {rule.id!r} exists already in flag {key!r}")
            config = replace(config, rules=_placed(stored, config.rules, rule, position))
        case ReplaceRule(_, rule):
            _rule(stored, rule.id)
            config = replace(config, rules=tuple(rule if each.id == rule.id else each for each in config.rules))
        case RemoveRule(_, rule_id):
            gone = _rule(stored, rule_id)
            config = replace(config, rules=tuple(each for each in config.rules if each is not gone))
        case MoveRule(_, rule_id, position):
            moved = _rule(stored, rule_id)
            others = tuple(each for each in config.rules if each is not moved)
            config = replace(config, rules=_placed(stored, others, moved, position))
        case ReorderRules(_, rule_ids):
            config = replace(config, rules=_reordered(stored, rule_ids))
        case UpdateConfig(_, given, fields):
            config = replace(config, **_chosen(given, fields, CONFIG_FIELDS))
            if "prerequisites" in fields:
                _check_prerequisites(stored, config.prerequisites, flags)
        case SettleTimeline(_, at):
            config = settled(config, at)
        case UpdateFlag() | SetVariants() | ArchiveFlag() | RestoreFlag():
            return replace(stored, flag=_edited_flag(stored.flag, change, flags))
        case _:
            assert_never(change)
    return replace(stored, config=config)


def _edited_flag(
    flag: Flag, change: UpdateFlag | SetVariants | ArchiveFlag | RestoreFlag, flags: Mapping[str, FlagDefinition]
) -> Flag:
    match change:
        case UpdateFlag(_, given, fields):
            return replace(flag, **_chosen(given, fields, FLAG_FIELDS))
        case SetVariants():
            return replace(flag, variants=_variants(flag, change))
        case ArchiveFlag(_, at):
            _refuse_required(flag.key, flags)
            return replace(flag, archived_at=flag.archived_at or at)
        case RestoreFlag():
            return replace(flag, archived_at=None)
        case _:
            assert_never(change)


def _check_editable(stored: FlagDefinition, change: FlagEdit) -> None:
    if stored.flag.archived_at is None or isinstance(change, ArchiveFlag | RestoreFlag | SettleTimeline):
        return
    if isinstance(change, SetEnabled) and not change.enabled:
        return
    raise Refused(f"flag {stored.key!r} is archived and cannot be edited; restore it first")


def _refuse_required(key: str, flags: Mapping[str, FlagDefinition]) -> None:
    dependents = [
        name
        for name, definition in flags.items()
        if name != key
        and definition.flag.archived_at is None
        and any(item.flag == key for item in definition.config.prerequisites)
    ]
    if dependents:
        raise Refused(f"flag {key!r} cannot be archived: required by {_names(sorted(dependents))}; change them first")


def _check_prerequisites(
    stored: FlagDefinition, wanted: Sequence[Prerequisite], flags: Mapping[str, FlagDefinition]
) -> None:
    had = {item.flag for item in stored.config.prerequisites}
    for item in wanted:
        other = flags.get(item.flag)
        if item.flag not in had and other is not None and other.flag.archived_at is not None:
            raise Refused(f"flag {item.flag!r} is archived, so no further flag can require it; restore it first")


def _targets(stored: FlagDefinition, change: SetTargets) -> tuple[Target, ...]:
    moved = {key for target in change.add for key in target.keys}
    gone = moved.union(change.remove)
    stays: dict[str, tuple[str, ...]] = {}
    for target in stored.config.targets:
        # A key that is added where it stands already keeps its place.
        added_here = {key for each in change.add if each.variant == target.variant for key in each.keys}
        stays[target.variant] = tuple(key for key in target.keys if key in added_here or key not in gone)
    for target in change.add:
        had = stays.get(target.variant, ())
        stays[target.variant] = (*had, *(key for key in dict.fromkeys(target.keys) if key not in had))
    return tuple(Target(variant, keys) for variant, keys in stays.items() if keys)


def _rule(stored: FlagDefinition, rule_id: str) -> Rule:
    for rule in stored.config.rules:
        if rule.id == rule_id:
            return rule
    known = _names([rule.id for rule in stored.config.rules])
    raise NotFound(f"rule {rule_id!r} is not in flag {stored.key!r}; it has: {known}")


def _placed(stored: FlagDefinition, others: tuple[Rule, ...], rule: Rule, position: Position) -> tuple[Rule, ...]:
    if position.before and position.after:
        raise InvalidRequest("a rule stands before another one or behind it; say one of them")
    anchor = position.before or position.after
    if not anchor:
        return (*others, rule)
    _rule(stored, anchor)
    at = next((index for index, each in enumerate(others) if each.id == anchor), None)
    if at is None:
        raise InvalidRequest(f"rule {rule.id!r} cannot stand beside itself")
    at += bool(position.after)
    return (*others[:at], rule, *others[at:])


def _reordered(stored: FlagDefinition, rule_ids: Sequence[str]) -> tuple[Rule, ...]:
    by_id = {rule.id: rule for rule in stored.config.rules}
    if len(set(rule_ids)) < len(rule_ids) or by_id.keys() != set(rule_ids):
        raise InvalidRequest(
            f"the order of flag {stored.key!r}'s rules names {_names(rule_ids)}, expected each of {_names(by_id)} once"
        )
    return tuple(by_id[rule_id] for rule_id in rule_ids)


def _variants(flag: Flag, change: SetVariants) -> dict[str, Json]:
    unknown = [key for key in change.remove if key not in flag.variants]
    if unknown:
        raise NotFound(f"flag {flag.key!r} has no variant {_names(unknown)}; it has: {_names(flag.variants)}")
    both = [key for key in change.remove if key in change.put]
    if both:
        raise InvalidRequest(f"variant {_names(both)} is to be put and taken away; say one of them")
    changed = {**flag.variants, **change.put}
    return {key: value for key, value in changed.items() if key not in change.remove}


def _chosen(given: Flag | FlagConfig, fields: Sequence[str], known: frozenset[str]) -> dict[str, Any]:
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise InvalidRequest(f"{_names(unknown)} cannot be updated; expected some of: {', '.join(sorted(known))}")
    return {name: getattr(given, name) for name in fields}


def _names(keys: Sequence[str] | Mapping[str, object]) -> str:
    listed = [repr(key) for key in keys]
    more = f" and {len(listed) - NAMES_SHOWN_MAX} more" if len(listed) > NAMES_SHOWN_MAX else ""
    return (", ".join(listed[:NAMES_SHOWN_MAX]) or "none") + more
