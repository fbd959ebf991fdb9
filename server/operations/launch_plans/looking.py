"""Look at launch plans: one with all that it will come to, many at a time, as a calendar."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from server.core.access import Action, Principal
from server.core.launch_plans.machine import CLOSED, State
from server.operations.launch_plans.foresight import Foresight, Look, foresee
from server.operations.launch_plans.rights import may_each, require_each
from server.operations.writes import Writer
from server.store.engine import reading
from server.store.launch_plans import StoredPlan, StoredStep, list_launch_plans, list_plan_steps, read_launch_plan

CALENDAR_PLANS_MAX: Final = 200
"""Plans of one calendar, the newest."""


@dataclass(frozen=True, slots=True)
class PlanDetail:
    """A launch plan with all that is to be known of it."""

    stored: StoredPlan
    steps: Sequence[StoredStep]
    foresight: Foresight


@dataclass(frozen=True, slots=True)
class Looking:
    """What is read of the launch plans of one database."""

    writer: Writer

    def read(self, principal: Principal, *, project: str, id: str, now: datetime) -> PlanDetail:
        """A plan, what happened to it and what it will come to. Errors: NotFound; PermissionDenied."""
        with reading(self.writer.engine) as connection:
            stored = read_launch_plan(connection, project=project, id=id)
            require_each(principal, Action.READ, project, stored.plan)
            steps = list_plan_steps(connection, project=project, id=id)
            return PlanDetail(stored, steps, foresee(connection, self.look(principal, stored, now)))

    def find(self, principal: Principal, *, project: str, id: str) -> StoredPlan:
        """A plan as it is stored. Errors: NotFound; PermissionDenied."""
        with reading(self.writer.engine) as connection:
            stored = read_launch_plan(connection, project=project, id=id)
        require_each(principal, Action.READ, project, stored.plan)
        return stored

    def calendar(self, principal: Principal, project: str, *, id: str = "") -> bytes:
        """A plan, or all that are not over and may be read, as an iCalendar file. Errors: as `find`."""
        # Loaded when the first calendar is asked for: it takes time at the start, and memory.
        from server.operations.launch_plans.feeds import calendar_of  # noqa: PLC0415

        if id:
            stored = self.find(principal, project=project, id=id)
            return calendar_of([stored], name=stored.plan.name)
        living = [state for state in State if state not in CLOSED]
        plans = self.page(principal, project=project, states=living, after=None, limit=CALENDAR_PLANS_MAX)
        return calendar_of(plans, name=f"Launches of {project}")

    def page(
        self,
        principal: Principal,
        *,
        project: str,
        states: Collection[State] = (),
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[StoredPlan]:
        """Those that the principal may read, the newest first."""
        found: list[StoredPlan] = []
        with reading(self.writer.engine) as connection:
            while len(found) < limit:
                page = list_launch_plans(connection, project=project, states=states, after=after, limit=limit)
                found += [each for each in page if may_each(principal, Action.READ, project, each.plan)]
                if len(page) < limit:
                    break
                after = page[-1].created_at, page[-1].id
        return found[:limit]

    def look(self, principal: Principal, stored: StoredPlan, now: datetime) -> Look:
        """Whose plan is looked at, and for whom."""
        runs_as = stored.progress.runs_as
        recorded = Principal(runs_as, stored.progress.runs_with)
        runner = (self.writer.who_is(runs_as) or recorded) if runs_as else principal
        return Look(
            stored.project, stored.id, stored.plan, stored.progress, stored.base, runner, now, self.writer.who_is
        )
