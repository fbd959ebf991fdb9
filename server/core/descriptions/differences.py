"""Say what differs between a flag, a segment, an environment or a project before and after a change."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeAlias

from server.core.definitions.environments import write_approval_policy, write_freeze_window
from server.core.definitions.flags import write_flag
from server.core.definitions.segments import write_segment
from server.core.descriptions.documents import describe_documents
from server.core.descriptions.parts import Difference
from server.core.environments import NO_APPROVALS, Environment, Project
from server.core.events import Event
from server.core.flags import FlagDefinition
from server.core.json import Json
from server.core.segments import Segment

__all__ = ["Difference", "describe", "describe_documents", "describe_event"]

Subject: TypeAlias = FlagDefinition | Segment | Environment | Project


def describe(before: Subject | None, after: Subject | None) -> tuple[Difference, ...]:
    """What differs, in the order in which it matters; () when nothing does. None: not there."""
    given = before if after is None else after
    kind = "" if given is None else _KINDS[type(given)]
    return describe_documents(kind, _document(before), _document(after))


def describe_event(event: Event) -> tuple[str, ...]:
    """What happened, as lines that can stand alone: `flag new-ui: default on -> off`."""
    return tuple(f"{event.kind} {event.key}: {each}" for each in describe(event.before, event.after))


_KINDS: Final = {FlagDefinition: "flag", Segment: "segment", Environment: "environment", Project: "project"}
_PROTECTION: Final = frozenset({"approvalPolicy", "freezeWindows"})
_KEYS: Final = frozenset({"project", "key"})


def _document(subject: Subject | None) -> Json:
    match subject:
        case None:
            return None
        case FlagDefinition():
            return write_flag(subject)
        case Segment():
            return write_segment(subject)
        case Environment():
            return {**_named(subject, without=_PROTECTION), **_protection(subject)}
    return _named(subject)


def _named(subject: Environment | Project, *, without: Collection[str] = ()) -> dict[str, Json]:
    return {name: value for name, value in _plain(subject).items() if name not in _KEYS and name not in without}


def _protection(environment: Environment) -> dict[str, Json]:
    """The same as documents have of it."""
    asks = environment.approval_policy != NO_APPROVALS
    return {
        **({"approvalPolicy": write_approval_policy(environment.approval_policy)} if asks else {}),
        "freezeWindows": [write_freeze_window(window) for window in environment.freeze_windows],
    }


def _plain(value: Any) -> Json:
    """A value as JSON, whatever fields later versions give it."""
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case tuple() | list():
            return [_plain(item) for item in value]
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
    if is_dataclass(value):
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
