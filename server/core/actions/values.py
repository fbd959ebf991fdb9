"""Describe an action, how it is asked for and what became of it, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from server.core.access import Action
from server.core.json import Json

PROJECT: Final = "project"
ENVIRONMENT: Final = "environment"


class Shape(StrEnum):
    """What an input holds."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXTS = "texts"
    NUMBERS = "numbers"
    INSTANT = "instant"
    """RFC 3339, with its offset."""

    OBJECT = "object"
    VALUES = "values"
    """Names with JSON values of any kind."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that an action is told."""

    name: str
    shape: Shape
    title: str
    says: str
    required: bool = False
    choices: tuple[str, ...] = ()
    example: Json = None
    least: float | None = None
    most: float | None = None
    pick: str = ""
    """Where tools get what to choose from, a path with names of other inputs in braces."""


@dataclass(frozen=True, slots=True)
class ActionType:
    """Something that a tool may have done, by its name."""

    name: str
    title: str
    says: str
    inputs: tuple[Input, ...]
    """Beside project and environment."""

    permission: Action
    """What its caller must be allowed; the door behind asks again, for exactly where it is done."""

    example: Mapping[str, Json]
    in_environment: bool | None = True
    """Whether it names an environment; None: it may."""

    writes: bool = True
    """Searches change nothing."""

    is_paced: bool = True
    """Whether automation is held to a rate for each flag; what stops something never is."""


class Status(StrEnum):
    """What became of an action."""

    APPLIED = "applied"
    NOOP = "noop"
    """Everything asked for was so already."""

    PENDING_APPROVAL = "pending_approval"
    """Others are asked first; nothing changed yet."""

    SCHEDULED = "scheduled"
    """It is done at its time."""

    WOULD_APPLY = "would_apply"
    """It was a dry run."""

    REJECTED = "rejected"
    """The state of things does not allow it; nothing changed."""

    FOUND = "found"
    """Of a search; `items` are what was found."""


@dataclass(frozen=True, slots=True)
class Causation:
    """Which event led to an action, and how many automations one after the other led to that."""

    id: str = ""
    hops: int = 0


NO_CAUSE: Final = Causation()


@dataclass(frozen=True, slots=True)
class Asked:
    """One action that is to be done."""

    name: str
    inputs: Mapping[str, Json]
    """With project and environment."""

    reason: str = ""
    cause: str = ""
    """Something outside that it belongs to: a ticket, a run."""

    dry_run: bool = False
    expected_version: int = 0
    """0: not asked."""

    idempotency_key: str = ""
    causation: Causation = NO_CAUSE


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an action; given again, as it was, to whoever asks with the same idempotency key."""

    action_id: str
    action: str
    status: Status
    version: int | None = None
    """Of what was changed, to be named as `expected_version` later; None where it is not known."""

    revision: int | None = None
    """Of the environment, where it moved."""

    event_ids: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    """What differs, a line each, as people read it."""

    warnings: tuple[str, ...] = ()
    change_request: str = ""
    subject_id: str = ""
    """The id of what was made: a schedule, a release."""

    items: tuple[Mapping[str, Json], ...] = field(default=())


def done_json(done: Done) -> dict[str, Json]:
    """What became of an action, as it is sent and kept."""
    return {
        "action_id": done.action_id,
        "action": done.action,
        "status": done.status.value,
        "version": done.version,
        "revision": done.revision,
        "event_ids": list(done.event_ids),
        "changes": list(done.changes),
        "warnings": list(done.warnings),
        "change_request": done.change_request,
        "subject_id": done.subject_id,
        "items": [dict(each) for each in done.items],
    }


def read_done(kept: Mapping[str, Json]) -> Done:
    """The same from what was kept."""
    return Done(
        kept["action_id"],
        kept["action"],
        Status(kept["status"]),
        kept["version"],
        kept["revision"],
        tuple(kept["event_ids"]),
        tuple(kept["changes"]),
        tuple(kept["warnings"]),
        kept["change_request"],
        kept["subject_id"],
        tuple(kept["items"]),
    )
