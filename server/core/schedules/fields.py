"""Name the fields that a change sets, so that two changes of the same one are noticed before they are made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.core import edits
from server.core.changes import (
    AddSegmentKeys,
    Change,
    CreateEnvironment,
    DeleteEnvironment,
    PutFlag,
    PutSegment,
    RemoveFlag,
    RemoveSegment,
    RemoveSegmentKeys,
    UpdateEnvironment,
)
from server.core.copies import CopyConfig

WHOLE: Final = ""
"""The name of all fields of a thing together."""


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """One field of a flag, segment or environment."""

    environment: str
    kind: str
    key: str
    name: str
    """`enabled`, `rules/beta`; "" for the whole thing, and a part before a slash for all below it."""

    @property
    def thing(self) -> tuple[str, str, str]:
        """What it is a field of."""
        return self.environment, self.kind, self.key

    @property
    def described(self) -> str:
        """`flag new-ui: enabled`."""
        return f"{self.kind} {self.key}: {self.name}" if self.name else f"{self.kind} {self.key}"

    def meets(self, other: "Field") -> bool:
        """Whether one is the other, or a part of it."""
        if self.thing != other.thing:
            return False
        mine, theirs = self.name, other.name
        return (
            not mine or not theirs or mine == theirs or mine.startswith(f"{theirs}/") or theirs.startswith(f"{mine}/")
        )


def fields_of(environment: str, changes: Iterable[Change]) -> frozenset[Field]:
    """What changes to an environment set, whatever is there now."""
    return frozenset(
        Field(environment, kind, key, name)
        for change in changes
        for kind, key, names in (_set_by(environment, change),)
        for name in names
    )


def meeting(mine: Iterable[Field], theirs: Iterable[Field]) -> Field | None:
    """The first field of mine that one of theirs is, or is a part of; None when they have none in common."""
    by_thing: dict[tuple[str, str, str], list[Field]] = {}
    for field in theirs:
        by_thing.setdefault(field.thing, []).append(field)
    return next(
        (field for field in sorted(mine) if any(field.meets(other) for other in by_thing.get(field.thing, ()))), None
    )


def _set_by(environment: str, change: Change) -> tuple[str, str, tuple[str, ...]]:
    match change:
        case PutFlag() | CopyConfig():
            return "flag", change.definition.key, (WHOLE,)
        case RemoveFlag(key):
            return "flag", key, (WHOLE,)
        case PutSegment(segment):
            return "segment", segment.key, (WHOLE,)
        case RemoveSegment(key):
            return "segment", key, (WHOLE,)
        case AddSegmentKeys(key) | RemoveSegmentKeys(key):
            return "segment", key, ("keys",)
        case CreateEnvironment() | DeleteEnvironment():
            return "environment", environment, (WHOLE,)
        case UpdateEnvironment():
            given = (name for name in change.__slots__ if getattr(change, name) is not None)
            return "environment", environment, tuple(given)
        case _:
            named = _EDITS.get(type(change), lambda _edit: (WHOLE,))
            return "flag", getattr(change, "key", ""), named(change)


_EDITS: Final[Mapping[type[Any], Callable[[Any], tuple[str, ...]]]] = {
    edits.SetEnabled: lambda _edit: ("enabled",),
    edits.SetOffVariant: lambda _edit: ("off_variant",),
    edits.SetDefault: lambda _edit: ("default",),
    edits.SetPrerequisites: lambda _edit: ("prerequisites",),
    edits.SetTargets: lambda _edit: ("targets",),
    edits.AddRule: lambda edit: (f"rules/{edit.rule.id}",),
    edits.ReplaceRule: lambda edit: (f"rules/{edit.rule.id}",),
    edits.RemoveRule: lambda edit: (f"rules/{edit.rule_id}",),
    edits.MoveRule: lambda edit: (f"rules/{edit.rule_id}",),
    edits.ReorderRules: lambda _edit: ("rules",),
    edits.UpdateConfig: lambda edit: tuple(edit.fields),
    edits.UpdateFlag: lambda edit: tuple(edit.fields),
    edits.SetVariants: lambda edit: tuple(f"variants/{name}" for name in (*edit.put, *edit.remove)),
    edits.ArchiveFlag: lambda _edit: ("archived_at",),
    edits.RestoreFlag: lambda _edit: ("archived_at",),
    edits.SettleTimeline: lambda _edit: ("timeline",),
}
