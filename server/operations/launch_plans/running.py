"""Carry launch plans on when their time has come, each instant exactly once.

A plan's row is read and moved in the transaction that makes its changes, in the project's turn. So of several processes
that find it due one does, and the others find it done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, assert_never

from sqlalchemy import Connection

from server.core.access import Principal
from server.core.environments import Environment
from server.core.errors import FlagstaffError, NotFound, Outdated, Refused, StoreCorrupt, StoreUnavailable
from server.core.events import Event
from server.core.launch_plans.machine import (
    Complete,
    Execute,
    Happening,
    Hold,
    Remind,
    Skip,
    Step,
    Wait,
    advance,
    decide,
    next_at,
)
from server.core.launch_plans.plan import Moved, Outside
from server.core.launch_plans.timing import Slot, Tick, slots_of
from server.core.limits import TEXT_CHARS_MAX
from server.core.policies import Permit, needs_approval
from server.operations.launch_plans.commits import (
    Things,
    actor_of,
    commit_tick,
    freezes_of,
    lacking_approvals,
    moved_since,
    start_releases,
    touched_by,
    versions_of,
    with_versions,
)
from server.operations.launch_plans.foresight import Look, foresee
from server.operations.writes import Write, Writer, cause_of
from server.store import failpoints
from server.store.engine import reading, writing
from server.store.launch_plans import (
    StoredPlan,
    find_due_plans,
    forget_next_at,
    read_launch_plan,
    save_next_at,
    save_plan_step,
)
from server.store.turns import take_turn

LOOK_AGAIN: Final = timedelta(minutes=1)
"""While an environment is frozen: its window may be taken away, which no plan hears of."""


@dataclass(frozen=True, slots=True)
class Running:
    """What carries the launch plans of one database on."""

    writer: Writer

    def carry_on(self, now: datetime) -> list[FlagstaffError]:
        """Do all that is due, the earliest first; what went wrong with one plan does not hold up the others.

        Errors: StoreUnavailable; what is due is still due then.
        """
        failed: list[FlagstaffError] = []
        with reading(self.writer.engine) as connection:
            due = find_due_plans(connection, now=now)
        for project, id in due:
            try:
                self.carry_one(now, project=project, id=id)
            except StoreUnavailable:
                raise
            except FlagstaffError as error:
                # It would be tried again at once, and again.
                self._set_aside(project, id)
                failed.append(error)
        return failed

    def carry_one(self, now: datetime, *, project: str, id: str) -> None:
        """Do all that is due of one plan, an instant a transaction. Errors: StoreUnavailable, StoreCorrupt."""
        goes_on = True
        while goes_on:
            told = self._told_beforehand(now, project, id)
            goes_on = take_turn(
                self.writer.engine,
                f"project/{project}",
                partial(self._next, now=now, project=project, id=id, told=told),
            )
            if goes_on:
                failpoints.reach("plan.committed")

    def _told_beforehand(self, now: datetime, project: str, id: str) -> tuple[StoredPlan, str] | None:
        """For a reminder that is due: what stands in the plan's way, looked at while nobody waits for it."""
        with reading(self.writer.engine) as connection:
            try:
                stored = read_launch_plan(connection, project=project, id=id)
            except NotFound:
                return None
            slots = slots_of(stored.plan, freezes_of(connection, project, stored.plan))
            if not isinstance(decide(stored.plan, stored.progress, slots, now), Remind):
                return None
            return stored, _told(self._conflicts(connection, stored, now))

    def _set_aside(self, project: str, id: str) -> None:
        with writing(self.writer.engine, about=f"project/{project}") as connection:
            forget_next_at(connection, project=project, id=id)

    def _next(
        self,
        connection: Connection,
        *,
        now: datetime,
        project: str,
        id: str,
        told: tuple[StoredPlan, str] | None,
    ) -> bool:
        """Do the next thing; whether there may be another one."""
        try:
            stored = read_launch_plan(connection, project=project, id=id)
        except NotFound:
            return False
        if stored.next_at is None or stored.next_at > now:
            return False
        failpoints.reach("plan.due")
        slots = slots_of(stored.plan, freezes_of(connection, project, stored.plan))
        server, going = actor_of(id), stored
        match decide(stored.plan, stored.progress, slots, now):
            case Wait(until):
                at = _looking(stored, slots, until, now)
                if at != stored.next_at:
                    save_next_at(connection, stored, at)
                return False
            case Remind(tick):
                known = told is not None and told[0] == stored
                text = told[1] if told is not None and known else _told(self._conflicts(connection, stored, now))
                step = Step(Happening.DUE_SOON, server, now, text, items=_ids(tick), due_at=tick.at)
            case Hold(tick, why, missed):
                happening = Happening.MISSED if missed else Happening.HELD
                step = Step(happening, server, now, why, items=_ids(tick), due_at=tick.at)
            case Skip(tick, why):
                step = Step(Happening.SKIPPED, server, now, why, items=_ids(tick), due_at=tick.at)
            case Complete():
                step = Step(Happening.COMPLETED, server, now)
            case Execute(tick):
                going, step = self._execute(connection, stored, tick, now)
            case following:
                assert_never(following)
        progress = advance(stored.progress, step)
        at = next_at(stored.plan, progress, slots, now)
        save_plan_step(connection, stored, replace(going, progress=progress, next_at=at, updated_at=now), step)
        failpoints.reach("plan.carried_on")
        return True

    def _execute(
        self, connection: Connection, stored: StoredPlan, tick: Tick, now: datetime
    ) -> tuple[StoredPlan, Step]:
        """Make the changes of an instant; what refuses them holds the plan."""
        server = actor_of(stored.id)
        savepoint = connection.begin_nested()
        try:
            things = touched_by(tick.items, {})
            moved = moved_since(connection, stored.project, stored.base, things)
            if moved and stored.plan.moved is Moved.HOLD:
                raise _outdated(stored, [str(each) for each in moved])
            write = self._write(stored, tick, now)
            why = replace(cause_of(write, stored.project), actor=server)
            permit = self._permit(connection, stored, tick, write)
            made = commit_tick(connection, tick, why, permit=permit)
            start_releases(self.writer, connection, tick, write, look=stored, made=made)
            touched = touched_by(tick.items, made.events)
            base = with_versions(stored.base, versions_of(connection, stored.project, touched))
        except (StoreUnavailable, StoreCorrupt):
            raise
        except FlagstaffError as error:
            savepoint.rollback()
            text = str(error)[:TEXT_CHARS_MAX]
            return stored, Step(Happening.CONFLICTED, server, now, text, items=_ids(tick), due_at=tick.at)
        savepoint.commit()
        step = Step(Happening.EXECUTED, server, now, items=_ids(tick), due_at=tick.at, revisions=made.revisions)
        return replace(stored, base=base), step

    def _write(self, stored: StoredPlan, tick: Tick, now: datetime) -> Write:
        progress = stored.progress
        principal = self.writer.who_is(progress.runs_as) or Principal(progress.runs_as, progress.runs_with)
        titles = [each.title or each.id for each in tick.items]
        reason = f"{stored.plan.name}: {', '.join(titles)}"[:TEXT_CHARS_MAX]
        return Write(
            principal, tick.items[0].action, now, reason=reason, cause=f"plan:{stored.id}@{tick.at.isoformat()}"
        )

    def _permit(self, connection: Connection, stored: StoredPlan, tick: Tick, write: Write) -> Permit:
        lacks = lacking_approvals(stored.plan, stored.progress, self.writer.who_is)

        def approvals(environment: Environment, events: Sequence[Event]) -> None:
            if not needs_approval(environment, events):
                return
            if told := lacks(environment, events):
                raise Refused(told)
            # Approvals were for what there was: it must be so still, whatever the plan says of what moved.
            things: Things = {environment.key: {(each.kind, each.key) for each in events if each.kind != "project"}}
            moved = moved_since(connection, stored.project, stored.base, things)
            if moved:
                raise _outdated(stored, [str(each) for each in moved])

        permits = [
            self.writer.permit(replace(write, action=action), approvals)
            for action in sorted({item.action for item in tick.items})
        ]

        def permit(environment: Environment, events: Sequence[Event]) -> None:
            for each in permits:
                each(environment, events)

        return permit

    def _conflicts(self, connection: Connection, stored: StoredPlan, now: datetime) -> list[str]:
        progress = stored.progress
        principal = self.writer.who_is(progress.runs_as) or Principal(progress.runs_as, progress.runs_with)
        look = Look(stored.project, stored.id, stored.plan, progress, stored.base, principal, now, self.writer.who_is)
        return [each.message for each in foresee(connection, look).conflicts]


def _looking(stored: StoredPlan, slots: Sequence[Slot], until: datetime | None, now: datetime) -> datetime | None:
    """When to look again: earlier than what is next, while a window keeps it from being earlier."""
    pending = [slot for slot in slots if slot.item.id not in stored.progress.finished]
    if until is None or stored.plan.outside is not Outside.MOVE or not pending or pending[0].planned_at > now:
        return until
    return min(until, now + LOOK_AGAIN)


def _outdated(stored: StoredPlan, moved: Sequence[str]) -> Outdated:
    return Outdated(
        f"launch plan {stored.id} was for what there was before: {'; '.join(moved[:3])}; resume it if it is still right"
    )


def _told(conflicts: Sequence[str]) -> str:
    return "; ".join(conflicts)[:TEXT_CHARS_MAX]


def _ids(tick: Tick) -> tuple[str, ...]:
    return tuple(each.id for each in tick.items)
