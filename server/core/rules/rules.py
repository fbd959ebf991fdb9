"""Describe a rule and a run of it, and decide what becomes of a run that went wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from server.core.access import ALLOWED, Grant, Principal, Role
from server.core.errors import (
    Conflict,
    FlagstaffError,
    InvalidDefinition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    TooLarge,
)
from server.core.json import Json

ACTOR: Final = "rule:"
"""How a rule's name as an actor begins; its id follows."""

RETRY_S: Final = (5.0, 30.0, 120.0, 600.0, 3_600.0)
"""After so many seconds a run that failed is tried again, attempt after attempt."""

FAILING_MAX: Final = timedelta(hours=24)
FAILURES_MAX: Final = 10
"""A rule of which so many runs failed one after the other, for so long, is disabled."""

PER_MINUTE: Final = 60
PER_MINUTE_MAX: Final = 6_000


@dataclass(frozen=True, slots=True)
class Act:
    """Have an action done. Texts among its inputs may be templates over the event."""

    action: str
    inputs: Mapping[str, Json] = field(default_factory=dict)
    """Without project: a rule acts in its own. Without environment it acts in the event's."""

    reason: str = ""
    """A template, too."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver the event to an endpoint, whatever else that endpoint wants."""

    endpoint_id: str


Then: TypeAlias = Act | Deliver


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a rule answers; as webhooks/filters.py reads and asks it."""

    event_types: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """What somebody decides of a rule."""

    name: str
    when: Wanted
    then: Then
    description: str = ""
    per_minute: int = PER_MINUTE
    """Runs that are begun in a minute; further ones wait."""


class RuleState(StrEnum):
    """Whether a rule answers events."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class RunState(StrEnum):
    """What became of a run."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    """It was tried as often as it is worth."""

    REFUSED = "refused"
    """It was not tried: too many automations had led there, or too much waited already."""


OVER: Final = frozenset({RunState.DONE, RunState.FAILED, RunState.REFUSED})


@dataclass(frozen=True, slots=True)
class Health:
    """How a rule does."""

    failing_since: datetime | None = None
    failure_count: int = 0
    """Runs that failed one after the other."""

    def after_success(self) -> "Health":
        """Whatever failed before is forgiven."""
        return Health()

    def after_failure(self, now: datetime) -> "Health":
        """One more."""
        return Health(self.failing_since or now, self.failure_count + 1)

    def is_hopeless(self, now: datetime) -> bool:
        """Whether it is better to do nothing more until somebody looks."""
        return (
            self.failing_since is not None
            and now - self.failing_since >= FAILING_MAX
            and self.failure_count >= FAILURES_MAX
        )


def retry_in_s(attempt_count: int, error: Exception) -> float | None:
    """Seconds until a run is tried again that failed so often; None: it is not worth it."""
    if isinstance(error, FlagstaffError) and not may_pass(error):
        return None
    return RETRY_S[attempt_count - 1] if attempt_count <= len(RETRY_S) else None


def may_pass(error: FlagstaffError) -> bool:
    """Whether the same request may be answered otherwise later: a freeze ends, a rate rests, a database comes back."""
    return not isinstance(error, InvalidDefinition | InvalidRequest | NotFound | PermissionDenied | Conflict | TooLarge)


def acting(rule_id: str, then_allowed: Sequence[Grant], now_allowed: Sequence[Grant] | None) -> Principal:
    """As whom a rule acts: what its author was allowed when they wrote it, and is still allowed.

    `now_allowed` is None where nobody can tell what they are allowed now. No rule steps over approvals or freezes.
    """
    grants = tuple(then_allowed) if now_allowed is None else both(then_allowed, now_allowed)
    return Principal(f"{ACTOR}{rule_id}", tuple(each for each in grants if each.role is not Role.BYPASS))


def both(one: Sequence[Grant], other: Sequence[Grant]) -> tuple[Grant, ...]:
    """What two lists of grants allow alike; perhaps less, where neither of two roles contains the other."""
    found = (_meet(first, second) for first in one for second in other)
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _meet(one: Grant, other: Grant) -> Grant | None:
    if not _fits(one.project, other.project) or not _fits(one.environment, other.environment):
        return None
    if ALLOWED[one.role] <= ALLOWED[other.role]:
        role = one.role
    elif ALLOWED[other.role] <= ALLOWED[one.role]:
        role = other.role
    else:
        return None
    project = other.project if one.project is None else one.project
    return Grant(role, project, other.environment if one.environment is None else one.environment)


def _fits(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other
