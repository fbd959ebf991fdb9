"""Foresee a launch plan: what there will be after each of its instants, and what stands in the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection

from server.core.access import Action, Grant, Principal, Role, Scope, allowing
from server.core.change_requests.approvals import WhoIs
from server.core.change_requests.machine import State as RequestState
from server.core.definitions.flags import write_flag
from server.core.environments import Environment
from server.core.errors import (
    ApprovalNeeded,
    FlagstaffError,
    NotFound,
    PermissionDenied,
    StoreCorrupt,
    StoreUnavailable,
)
from server.core.events import Event, FlagCreated, FlagRemoved, FlagUpdated
from server.core.json import Json
from server.core.launch_plans.machine import CLOSED, Progress, without_go
from server.core.launch_plans.plan import Item, Plan
from server.core.launch_plans.timing import Slot, Tick, slots_of, ticks_of
from server.core.policies import Asking, freeze_problem
from server.core.releases.plan import Subject
from server.operations.launch_plans.commits import (
    Made,
    Things,
    actor_of,
    commit_tick,
    freezes_of,
    lacking_approvals,
    moved_since,
    parts_of,
    start_releases,
    touched_by,
)
from server.operations.requesting import lines_of
from server.operations.writes import Write, Writer
from server.store.change_requests import Versions, Wanted, list_requests
from server.store.launch_plans import find_overlaps
from server.store.locks import Key, find_lock
from server.store.saving import Cause
from server.store.schedule_subjects import pending_about
from server.store.scratch import Reach, scratch
from server.store.versions import Thing


class ConflictKind(StrEnum):
    """What kind of thing stands in a plan's way."""

    PAST = "past"
    """It was due before now."""

    INVALID = "invalid"
    """The change is not sound, or cannot be made in this order."""

    MISSING = "missing"
    """What it needs is not there."""

    PERMISSION = "permission"
    """Whoever runs the plan may not do it."""

    MOVED = "moved"
    """Somebody else has changed what it would change."""

    OVERLAP = "overlap"
    """Another plan, a schedule, a release or a change request would change the same thing."""

    FROZEN = "frozen"
    """Its environment is frozen then."""

    OUTSIDE = "outside"
    """It falls outside business hours, or into a window of the plan."""

    APPROVAL = "approval"
    """Others must agree, who have not."""

    NO_GO = "no-go"
    """A point of the go/no-go list has no go yet."""


IN_THE_WAY: Final = frozenset({ConflictKind.PAST, ConflictKind.INVALID, ConflictKind.MISSING, ConflictKind.PERMISSION})
"""With one of these a plan is not started: it would not come through. The others may still be settled."""


_ANY: Final = Key(bypasser=Principal("foresight", (Grant(Role.BYPASS),)))
"""What is only tried steps over locks: a release that runs now may be over by then, and is told of."""

_OTHERS_MAX: Final = 100
"""Change requests of an environment that are compared."""


@dataclass(frozen=True, slots=True)
class PlanConflict:
    """One thing that stands in the way, or should be known."""

    kind: ConflictKind
    message: str
    items: tuple[str, ...] = ()
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What there will be after the items of one instant."""

    at: datetime
    items: tuple[str, ...]
    lines: Mapping[str, Sequence[str]]
    """Environment -> what differs there."""

    documents: Mapping[str, Mapping[str, Json]]
    """Environment -> flag -> its definition then; None for one that is gone."""


@dataclass(slots=True)
class Foresight:
    """All that can be told of a plan beforehand."""

    slots: tuple[Slot, ...] = ()
    foreseen: list[Foreseen] = field(default_factory=list)
    conflicts: list[PlanConflict] = field(default_factory=list)
    things: dict[str, set[Thing]] = field(default_factory=dict)
    """Environment -> what is touched there."""

    moving: dict[Subject, tuple[Item, bool]] = field(default_factory=dict)
    """Flags that a release of the plan moves by then; as `Made` has it."""


@dataclass(frozen=True, slots=True)
class Look:
    """Whose plan is looked at, when, and for whom."""

    project: str
    id: str
    plan: Plan
    progress: Progress
    base: Versions | None
    """None for a plan that is just being made, which nobody has seen at any version."""

    principal: Principal
    """Who runs it, or would."""

    now: datetime
    who_is: WhoIs


def foresee(connection: Connection, look: Look) -> Foresight:
    """Try all that is left of a plan, instant by instant, in a copy of what it touches: nobody waits for that.

    What cannot be done is told, and what comes after it still tried.
    Errors: StoreUnavailable, StoreCorrupt.
    """
    slots = slots_of(look.plan, freezes_of(connection, look.project, look.plan))
    found = Foresight(slots=slots)
    if look.progress.state in CLOSED:
        return found
    pending = [slot for slot in slots if slot.item.id not in look.progress.finished]
    things: dict[str, set[Thing]] = {}
    with scratch(connection, _reach(look, pending)) as copy:
        for tick in ticks_of(pending):
            made = _try(copy, look, tick, found)
            for environment, each in touched_by(tick.items, made.events).items():
                things.setdefault(environment, set()).update(each)
    found.things = things
    found.conflicts += [*_untimely(look, pending), *_unanswered(look, pending), *_others(connection, look, things)]
    return found


def _reach(look: Look, pending: Sequence[Slot]) -> Reach:
    items = [slot.item for slot in pending]
    releases = [item.starts.release for item in items if item.starts is not None]
    return Reach(look.project, tuple(parts_of(items)), tuple(releases))


def _try(connection: Connection, look: Look, tick: Tick, found: Foresight) -> Made:
    """Do what an instant is to do, on what was done before, and note what comes of it."""
    ids = tuple(item.id for item in tick.items)
    asking = Asking(look.principal, tick.at)
    lacks = lacking_approvals(look.plan, look.progress, look.who_is)

    def frozen(environment: Environment, events: Sequence[Event]) -> None:
        if told := freeze_problem(environment, events, asking):
            found.conflicts.append(PlanConflict(ConflictKind.FROZEN, told, ids, environment.key))

    def ask(environment: Environment, events: Sequence[Event]) -> None:
        scope = Scope(environment.project, environment.key)
        for action in sorted({item.action for item in tick.items}):
            if not look.principal.may(action, scope):
                roles = " or ".join(f"`{role}`" for role in allowing(action))
                told = f"{look.principal.actor} may not {action} in {environment.flag_set}; it needs the role {roles}"
                found.conflicts.append(PlanConflict(ConflictKind.PERMISSION, told, ids, environment.key))
        frozen(environment, events)
        if told := lacks(environment, events):
            found.conflicts.append(PlanConflict(ConflictKind.APPROVAL, told, ids, environment.key))

    writer = Writer(connection.engine, (lambda _write: frozen,), look.who_is)
    write = Write(look.principal, Action.EDIT, tick.at)
    savepoint = connection.begin_nested()
    try:
        made = commit_tick(
            connection, tick, Cause(look.project, actor_of(look.id), look.now, "", "", "", _ANY), permit=ask
        )
        _tell_moved(tick, made, found)
        start_releases(writer, connection, tick, write, look=look, made=made)
    except (StoreUnavailable, StoreCorrupt):
        raise
    except FlagstaffError as error:
        savepoint.rollback()
        found.conflicts.append(PlanConflict(_kind(error), str(error), ids))
        return Made()
    savepoint.commit()
    found.moving.update(made.moving)
    found.foreseen.append(Foreseen(tick.at, ids, lines_of(made.events), _documents(made)))
    return made


def _kind(error: FlagstaffError) -> ConflictKind:
    match error:
        case NotFound():
            return ConflictKind.MISSING
        case PermissionDenied():
            return ConflictKind.PERMISSION
        case ApprovalNeeded():
            return ConflictKind.APPROVAL
    return ConflictKind.INVALID


def _tell_moved(tick: Tick, made: Made, found: Foresight) -> None:
    """What an instant changes of flags that a release of the same plan moves by then."""
    for environment, events in made.events.items():
        for key in dict.fromkeys(event.key for event in events if event.kind == "flag"):
            by, locks = found.moving.get((environment, key), (None, False))
            if by is not None and by.starts is not None:
                refuses = ", which refuses other changes while it runs" if locks else ""
                told = (
                    f"flag {key!r} in {environment!r} is moved by release {by.starts.release} "
                    f"from item {by.id!r} on{refuses}"
                )
                ids = tuple(item.id for item in tick.items)
                found.conflicts.append(PlanConflict(ConflictKind.OVERLAP, told, ids, environment))


def _documents(made: Made) -> dict[str, dict[str, Json]]:
    # The last event of a flag says what it is.
    return {
        environment: {
            event.key: None if isinstance(event, FlagRemoved) else write_flag(event.after)
            for event in events
            if isinstance(event, FlagCreated | FlagUpdated | FlagRemoved)
        }
        for environment, events in made.events.items()
    }


def _untimely(look: Look, pending: Sequence[Slot]) -> list[PlanConflict]:
    conflicts = []
    for slot in pending:
        if slot.at < look.now:
            told = f"{slot.item.id!r} was due at {_shown(slot.at)}; shift the plan, or skip it"
            conflicts.append(PlanConflict(ConflictKind.PAST, told, (slot.item.id,)))
        if slot.outside:
            moved = slot.at != slot.planned_at
            what = f"is moved to {_shown(slot.at)}" if moved else "stays there"
            told = f"{slot.item.id!r} falls outside open hours at {_shown(slot.planned_at)} and {what}"
            conflicts.append(PlanConflict(ConflictKind.OUTSIDE, told, (slot.item.id,)))
    return conflicts


def _unanswered(look: Look, pending: Sequence[Slot]) -> list[PlanConflict]:
    if not pending:
        return []
    return [
        PlanConflict(
            ConflictKind.NO_GO,
            f"{check.id!r} has no go: {check.text}; {' or '.join(check.approvers)} may give it",
        )
        for check in without_go(look.plan, look.progress, pending[-1].at)
    ]


def _others(connection: Connection, look: Look, things: Things) -> list[PlanConflict]:
    """What others have done to the same things, or are about to do."""
    conflicts = []
    if look.base is not None:
        for moved in moved_since(connection, look.project, look.base, things):
            conflicts.append(PlanConflict(ConflictKind.MOVED, str(moved), environment=moved.environment))
    for other in find_overlaps(connection, project=look.project, id=look.id, things=things):
        told = f"launch plan {other.id} ({other.name}) changes {other.kind} {other.key!r} in {other.environment!r}, too"
        conflicts.append(PlanConflict(ConflictKind.OVERLAP, told, environment=other.environment))
    for schedule in pending_about(connection, project=look.project, things=things):
        first = min(schedule.fields)
        told = f"schedule {schedule.id} is to change {first.described} in {first.environment!r}, too"
        conflicts.append(PlanConflict(ConflictKind.OVERLAP, told, environment=first.environment))
    return [*conflicts, *_locks(connection, look, things), *_requests(connection, look, things)]


def _locks(connection: Connection, look: Look, things: Things) -> list[PlanConflict]:
    """Flags that something moves already: a release that runs, which may have its flag to itself."""
    conflicts = []
    for environment, each in things.items():
        for key in sorted(key for kind, key in each if kind == "flag"):
            lock = find_lock(connection, look.project, environment=environment, flag=key)
            if lock is not None:
                refuses = ", which refuses other changes while it runs" if lock.locks else ""
                told = f"flag {key!r} in {environment!r} is moved by {lock.holder}{refuses}"
                conflicts.append(PlanConflict(ConflictKind.OVERLAP, told, environment=environment))
    return conflicts


def _requests(connection: Connection, look: Look, things: Things) -> list[PlanConflict]:
    conflicts = []
    for environment in things:
        wanted = Wanted([RequestState.OPEN, RequestState.APPROVED], environment=environment)
        requests, _ = list_requests(connection, project=look.project, wanted=wanted, after=None, limit=_OTHERS_MAX)
        for request in requests:
            for kind, key in sorted(things[environment] & request.base.get(environment, {}).keys()):
                told = f"change request {request.id} would change {kind} {key!r} in {environment!r}, too"
                conflicts.append(PlanConflict(ConflictKind.OVERLAP, told, environment=environment))
    return conflicts


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
