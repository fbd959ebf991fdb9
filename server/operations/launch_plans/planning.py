"""Make launch plans and say how they go on: what people do with them."""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy import Connection

from server.core.access import Action
from server.core.change_requests.approvals import may_approve
from server.core.errors import InvalidRequest, PermissionDenied, Refused, Stale, TooLarge
from server.core.launch_plans.machine import Happening, Step, advance, created, next_at
from server.core.launch_plans.plan import Plan, check_plan
from server.core.launch_plans.timing import slots_of
from server.core.limits import TEXT_CHARS_MAX
from server.operations.launch_plans.ahead import Ahead, look_ahead, still_foreseen
from server.operations.launch_plans.commits import as_request, freezes_of, moved_since, versions_of, with_flags
from server.operations.launch_plans.foresight import (
    IN_THE_WAY,
    ConflictKind,
    Foresight,
    PlanConflict,
    foresee,
)
from server.operations.launch_plans.looking import Looking
from server.operations.launch_plans.rights import may_each, may_some, require_all, require_each, require_places
from server.operations.writes import Outcome, Write, Written
from server.store.engine import reading
from server.store.environments import find_environment
from server.store.launch_plans import (
    StoredPlan,
    find_known_plan,
    insert_plan,
    read_launch_plan,
    save_plan_step,
)
from server.store.turns import take_turn

ID_BYTES: Final = 5
Kept: TypeAlias = tuple[StoredPlan, Foresight | None]
"""A plan afterwards, and what it will come to where that was looked at."""

Go: TypeAlias = Callable[[Connection, StoredPlan], "Going"]


@dataclass(frozen=True, slots=True)
class Going:
    """What somebody does with a plan that is there."""

    step: Step
    plan: Plan | None = None
    """For UPDATED and SHIFTED."""

    ahead: Ahead | Foresight | None = None
    """What was looked at beforehand, or to say so; it takes a while."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What was done with a plan."""

    stored: StoredPlan
    foresight: Foresight
    written: Written


@dataclass(frozen=True, slots=True)
class LaunchPlans(Looking):
    """Launch plans of one database."""

    def create(self, write: Write, *, project: str, plan: Plan) -> Planned:
        """Keep a new plan, as a draft, and tell what stands in its way.

        Errors: InvalidDefinition with every problem; PermissionDenied; NotFound for a project; TooLarge.
        """
        check_plan(plan)
        plan = self._with_flags(project, plan)
        require_all(write.principal, project, plan)
        step = Step(Happening.CREATED, write.principal.actor, write.now, write.reason)
        id = f"lp_{secrets.token_hex(ID_BYTES)}"
        draft = StoredPlan(project, id, plan, {}, created(step), None, write.now, write.now)
        look = replace(self.look(write.principal, draft, write.now), base=None)
        ahead = look_ahead(self.writer.engine, look)

        def work(connection: Connection) -> Kept:
            known = find_known_plan(
                connection, project=project, request_id=write.request_id, happenings=[Happening.CREATED]
            )
            if known:
                return read_launch_plan(connection, project=project, id=known), None
            require_places(connection, project, plan)
            foresight = still_foreseen(connection, look, ahead)
            stored = replace(draft, base=versions_of(connection, project, foresight.things))
            insert_plan(connection, stored, step, request_id=write.request_id)
            return stored, foresight

        return self._done(write, project, work)

    def update(self, write: Write, *, project: str, id: str, plan: Plan) -> Planned:
        """Ask for something else, of a plan that is a draft or held. Approvals and answers are dropped.

        What was done stays done: items that are over must stay as they were. Errors: as `create`; Refused.
        """
        check_plan(plan)
        plan = self._with_flags(project, plan)
        require_all(write.principal, project, plan)
        step = self._step(write, Happening.UPDATED)
        ahead = self._ahead(write, project, id, step, plan)

        def go(connection: Connection, stored: StoredPlan) -> Going:
            require_all(write.principal, project, stored.plan)
            require_places(connection, project, plan)
            finished = stored.progress.finished
            if [each for each in stored.plan.items if each.id in finished] != [
                each for each in plan.items if each.id in finished
            ]:
                raise Refused(f"what was done cannot be changed: keep {', '.join(sorted(finished))} as they were")
            return Going(step, plan, ahead)

        return self._go(write, project, id, go, [Happening.UPDATED])

    def shift(self, write: Write, *, project: str, id: str, to: datetime | timedelta) -> Planned:
        """Put T-0 elsewhere, or so much later, and so all that is still to be done.

        Errors: PermissionDenied; InvalidDefinition for an instant that is none; Refused when it is over.
        """

        def go(_connection: Connection, stored: StoredPlan) -> Going:
            require_all(write.principal, project, stored.plan)
            before = stored.plan.launch_at
            try:
                launch_at = before + to if isinstance(to, timedelta) else to
            except OverflowError:
                raise InvalidRequest("by: there is no such year") from None
            shifted = replace(stored.plan, launch_at=launch_at)
            check_plan(shifted)
            text = write.reason or f"from {before.isoformat()} to {launch_at.isoformat()}"
            return Going(self._step(write, Happening.SHIFTED, text=text), shifted)

        return self._go(write, project, id, go, [Happening.SHIFTED])

    def start(self, write: Write, *, project: str, id: str) -> Planned:
        """Have it carried on by itself, with the rights of whoever says so.

        Errors: PermissionDenied; Refused with all that it would not come through, and in another state.
        """
        return self._run(write, project, id, Happening.STARTED)

    def resume(self, write: Write, *, project: str, id: str) -> Planned:
        """Have a held plan go on, from what is there now. What is due by then happens at once. Errors: as `start`."""
        return self._run(write, project, id, Happening.RESUMED)

    def hold(self, write: Write, *, project: str, id: str) -> Planned:
        """Stop it until somebody resumes it: for everybody who may switch something off where it goes."""

        def go(_connection: Connection, stored: StoredPlan) -> Going:
            if not may_some(write.principal, Action.KILL, project, stored.plan):
                require_each(write.principal, Action.KILL, project, stored.plan)
            return Going(self._step(write, Happening.HELD))

        return self._go(write, project, id, go, [Happening.HELD])

    def cancel(self, write: Write, *, project: str, id: str) -> Planned:
        """End it. What it did stays."""

        def go(_connection: Connection, stored: StoredPlan) -> Going:
            require_all(write.principal, project, stored.plan)
            return Going(self._step(write, Happening.CANCELLED))

        return self._go(write, project, id, go, [Happening.CANCELLED])

    def skip(self, write: Write, *, project: str, id: str, items: Sequence[str]) -> Planned:
        """Leave items out. Errors: InvalidRequest for one that there is not, Refused for one that is over."""

        def go(_connection: Connection, stored: StoredPlan) -> Going:
            require_all(write.principal, project, stored.plan)
            known = {item.id for item in stored.plan.items}
            for each in items:
                if each not in known:
                    raise InvalidRequest(f"the plan has no item {each!r}; it has: {', '.join(sorted(known))}")
                if each in stored.progress.finished:
                    raise Refused(f"item {each!r} is over")
            if not items or len(set(items)) != len(items):
                raise InvalidRequest("name the items to skip, each once")
            return Going(self._step(write, Happening.SKIPPED, items=tuple(items)))

        return self._go(write, project, id, go, [Happening.SKIPPED])

    def answer(self, write: Write, *, project: str, id: str, check: str, go: bool, text: str) -> Planned:
        """Say go or no-go to a point of the list; a no holds what is under way.

        Errors: InvalidRequest for a point that there is not, or a no without a text; PermissionDenied for whoever is
        not named there.
        """
        _check_length(text)
        if not go and not text.strip():
            raise InvalidRequest("a no-go needs a text that says why")

        def going(_connection: Connection, stored: StoredPlan) -> Going:
            found = next((each for each in stored.plan.checks if each.id == check), None)
            if found is None:
                known = ", ".join(each.id for each in stored.plan.checks) or "none"
                raise InvalidRequest(f"the plan has no check {check!r}; it has: {known}")
            require_each(write.principal, Action.READ, project, stored.plan)
            if write.principal.actor not in found.approvers:
                named = ", ".join(found.approvers)
                raise PermissionDenied(f"{write.principal.actor} may not answer {check!r}; it is for: {named}")
            happening = Happening.ANSWERED_GO if go else Happening.ANSWERED_NO_GO
            return Going(self._step(write, happening, text=text, check=check))

        return self._go(write, project, id, going, [Happening.ANSWERED_GO, Happening.ANSWERED_NO_GO])

    def approve(self, write: Write, *, project: str, id: str, text: str) -> Planned:
        """Agree to what it asks for now, where environments ask for approvals.

        Errors: Refused when this principal's approval does not count, and why.
        """
        _check_length(text)

        def go(connection: Connection, stored: StoredPlan) -> Going:
            if not may_some(write.principal, Action.APPROVE, project, stored.plan):
                require_each(write.principal, Action.APPROVE, project, stored.plan)
            places = {
                key: found.environment
                for key in stored.plan.environments
                if (found := find_environment(connection, project=project, environment=key)) is not None
            }
            if told := may_approve(as_request(stored.plan, stored.progress), write.principal, places):
                raise Refused(told)
            return Going(self._step(write, Happening.APPROVED, text=text))

        return self._go(write, project, id, go, [Happening.APPROVED])

    def _with_flags(self, project: str, plan: Plan) -> Plan:
        if not any(item.starts for item in plan.items):
            return plan
        with reading(self.writer.engine) as connection:
            return with_flags(connection, project, plan)

    def _ahead(self, write: Write, project: str, id: str, step: Step | None, plan: Plan | None) -> Ahead | None:
        """Look at a plan as it is, or will be after a step, without a turn; None for what will be refused."""
        with reading(self.writer.engine) as connection:
            stored = read_launch_plan(connection, project=project, id=id)
        require_all(write.principal, project, stored.plan)
        if step is not None:
            try:
                progress = advance(stored.progress, step)
            except Refused:
                return None
            stored = replace(stored, plan=plan or stored.plan, progress=progress)
        return look_ahead(self.writer.engine, self.look(write.principal, stored, write.now))

    def _run(self, write: Write, project: str, id: str, happening: Happening) -> Planned:
        ahead = self._ahead(write, project, id, None, None)

        def go(connection: Connection, stored: StoredPlan) -> Going:
            require_all(write.principal, project, stored.plan)
            step = self._step(write, happening)
            # In another state that is what is to be told.
            advance(stored.progress, step)
            foresight = still_foreseen(connection, self.look(write.principal, stored, write.now), ahead)
            known = IN_THE_WAY if happening is Happening.STARTED else IN_THE_WAY - {ConflictKind.PAST}
            stopping = [each for each in foresight.conflicts if each.kind in known]
            if stopping:
                told = "; ".join(each.message for each in stopping[:5])
                more = f"; and {len(stopping) - 5} more" if len(stopping) > 5 else ""
                raise Refused(f"launch plan {id} would not come through: {told}{more}")
            moved = moved_since(connection, project, stored.base, foresight.things)
            return Going(replace(step, moved=bool(moved)), ahead=foresight)

        return self._go(write, project, id, go, [happening])

    def _go(self, write: Write, project: str, id: str, go: Go, happenings: Collection[Happening]) -> Planned:
        _check_length(write.reason)

        def work(connection: Connection) -> Kept:
            stored = read_launch_plan(connection, project=project, id=id)
            if find_known_plan(connection, project=project, request_id=write.request_id, happenings=happenings, id=id):
                return stored, None
            number = stored.progress.content_number
            if write.expected_version not in (None, number):
                raise Stale(f"launch plan {id} has content {number}, expected {write.expected_version}; read it again")
            going = go(connection, stored)
            after, foresight = self._after(connection, stored, going, write)
            save_plan_step(connection, stored, after, going.step, request_id=write.request_id)
            return after, foresight

        return self._done(write, project, work)

    def _after(self, connection: Connection, stored: StoredPlan, going: Going, write: Write) -> Kept:
        plan, progress = going.plan or stored.plan, advance(stored.progress, going.step)
        after = replace(stored, plan=plan, progress=progress, updated_at=write.now)
        foresight = None
        if going.step.happening in (Happening.UPDATED, Happening.STARTED, Happening.RESUMED):
            # Somebody has looked at it as it is now.
            look = self.look(write.principal, after, write.now)
            seen = going.ahead
            foresight = seen if isinstance(seen, Foresight) else still_foreseen(connection, look, seen)
            after = replace(after, base=versions_of(connection, stored.project, foresight.things))
        slots = slots_of(plan, freezes_of(connection, stored.project, plan))
        return replace(after, next_at=next_at(plan, progress, slots, write.now)), foresight

    def _done(self, write: Write, project: str, work: Callable[[Connection], Kept]) -> Planned:
        def once(connection: Connection) -> Kept:
            found = work(connection)
            if write.dry_run:
                raise _TakenBack(found)
            return found

        try:
            stored, foresight = take_turn(self.writer.engine, f"project/{project}", once)
        except _TakenBack as taken:
            stored, foresight = taken.found
        if not may_each(write.principal, Action.READ, project, stored.plan):
            # Who may only stop it is not told what it would do.
            foresight = Foresight()
        elif foresight is None:
            # Nobody waits for that any more.
            with reading(self.writer.engine) as connection:
                foresight = foresee(connection, self.look(write.principal, stored, write.now))
        outcome = Outcome.WOULD_APPLY if write.dry_run else Outcome.APPLIED
        return Planned(stored, foresight, Written(outcome, warnings=_warnings(foresight.conflicts)))

    def _step(
        self, write: Write, happening: Happening, *, text: str = "", check: str = "", items: tuple[str, ...] = ()
    ) -> Step:
        principal = write.principal
        return Step(
            happening, principal.actor, write.now, text or write.reason, principal.grants, items=items, check=check
        )


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""

    def __init__(self, found: Kept) -> None:
        self.found = found


def _warnings(conflicts: Sequence[PlanConflict]) -> tuple[str, ...]:
    return tuple(f"{each.kind}: {each.message}" for each in conflicts)


def _check_length(text: str) -> None:
    if len(text) > TEXT_CHARS_MAX:
        raise TooLarge(f"the text has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")
