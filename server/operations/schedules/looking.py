"""Look at schedules, at what became of them, and at what they would do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from server.core.access import Action, Principal, Scope
from server.core.change_requests.approvals import Agreed, approvers
from server.core.environments import Environment
from server.core.errors import InvalidRequest
from server.core.events import Event
from server.core.schedules.conflicts import ScheduleConflict
from server.core.schedules.machine import CLOSED, State
from server.core.schedules.timing import due_instants
from server.operations.requesting import content_from
from server.operations.schedules.plans import Plan, first_due
from server.operations.schedules.steps import may_everywhere, may_read
from server.operations.schedules.trying import Asked, NobodyYet, attempt
from server.operations.writes import Write, Writer, cause_of, require
from server.store.engine import reading, writing
from server.store.environments import find_environment
from server.store.schedule_steps import StoredStep, read_steps
from server.store.schedule_subjects import read_fields
from server.store.schedules import StoredSchedule, Wanted, content_of, list_schedules, read_schedule

STEPS_SHOWN_MAX: Final = 100
INSTANTS_SHOWN_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class AskedFor:
    """How many approvals an environment asks for by its policy of now, and whose count."""

    environment: str
    needed_count: int
    approvers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Detail:
    """A schedule with all that there is to know of it."""

    schedule: StoredSchedule
    steps: Sequence[StoredStep]
    approvals: Sequence[AskedFor]
    instants: Sequence[datetime]
    """Its next ones."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a schedule would do if it were due now, and what stands in its way when it is."""

    events: Mapping[str, Sequence[Event]]
    """Environment -> what would happen there, with the things before and after."""

    conflicts: Sequence[ScheduleConflict]
    instants: Sequence[datetime]


@dataclass(frozen=True, slots=True)
class Page:
    """Some schedules, and how many there are in all."""

    schedules: Sequence[StoredSchedule]
    count: int


@dataclass(frozen=True, slots=True)
class Looking:
    """What there is to see of the schedules of one database."""

    writer: Writer

    def preview(self, write: Write, *, project: str, plan: Plan, id: str = "") -> Preview:
        """What a schedule would do, on what is there now; of one that is there, or of a plan.

        Errors: PermissionDenied, NotFound; as `create` for a plan that is not sound.
        """
        with writing(self.writer.engine, about=f"project/{project}", tells=False) as connection:
            if id:
                schedule = read_schedule(connection, project=project, id=id)
                may_read(write.principal, schedule)
                content, timing = content_of(schedule), schedule.timing
                action = schedule.progress.action
                principal = self.writer.who_is(schedule.progress.maker) or Principal(
                    schedule.progress.maker, schedule.progress.maker_grants
                )
                due_at = schedule.progress.due_at or write.now
                agreed: Agreed = schedule.progress
                base = schedule.base
            else:
                if not plan.parts or plan.timing is None:
                    raise InvalidRequest("a preview needs the id of a schedule, or what one would do and when")
                content = content_from(plan.parts, replace_variants=plan.replace_variants)
                timing, action, principal = plan.timing, plan.action, write.principal
                due_at = first_due(timing, write.now)
                agreed, base = NobodyYet((principal.actor,)), {}
            mine = replace(write, principal=principal, action=action)
            asked = Asked(content, base, mine, cause_of(replace(mine, request_id=""), project), agreed)
            found = attempt(connection, self.writer, asked, at=due_at, timing=timing, id=id)
            events = {} if found.tried is None else found.tried.events
            return Preview(events, found.conflicts, due_instants(timing, write.now)[:INSTANTS_SHOWN_MAX])

    def read(self, principal: Principal, *, project: str, id: str, now: datetime) -> Detail:
        """One schedule. Errors: NotFound; PermissionDenied for who may not read all that it would change."""
        with reading(self.writer.engine) as connection:
            schedule = read_schedule(connection, project=project, id=id)
            may_read(principal, schedule)
            steps = read_steps(connection, project=project, id=id, limit=STEPS_SHOWN_MAX)
            environments = {} if schedule.progress.state in CLOSED else asking(connection, schedule)
        approvals = [
            AskedFor(key, each.approval_policy.approvals, approvers(schedule.progress, each, self.writer.who_is))
            for key, each in environments.items()
        ]
        waits = schedule.progress.state is State.PENDING
        instants = due_instants(schedule.timing, now)[:INSTANTS_SHOWN_MAX] if waits else ()
        return Detail(schedule, steps, approvals, instants)

    def page(
        self, principal: Principal, *, project: str, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
    ) -> Page:
        """Those that the principal may read, the newest first. Errors: PermissionDenied."""
        require(principal, Action.READ, Scope(project, wanted.environment))
        found: list[StoredSchedule] = []
        with reading(self.writer.engine) as connection:
            while True:
                page, count = list_schedules(connection, project=project, wanted=wanted, after=after, limit=limit)
                found += [each for each in page if may_everywhere(principal, Action.READ, each)]
                if len(page) < limit or len(found) >= limit:
                    return Page(found[:limit], count)
                after = page[-1].created_at, page[-1].id

    def executions(
        self, principal: Principal, *, project: str, id: str, before: int | None, limit: int
    ) -> Sequence[StoredStep]:
        """What became of its instants, the last first. Errors: NotFound, PermissionDenied."""
        with reading(self.writer.engine) as connection:
            may_read(principal, read_schedule(connection, project=project, id=id))
            return read_steps(connection, project=project, id=id, outcomes=True, before=before, limit=limit)


def asking(connection: Connection, schedule: StoredSchedule) -> dict[str, Environment]:
    """A schedule's environments that ask for approvals of what it sets."""
    kinds: dict[str, set[str]] = {}
    for each in read_fields(connection, project=schedule.project, ids=[schedule.id])[schedule.id]:
        kinds.setdefault(each.environment, set()).add(each.kind)
    found = {
        key: find_environment(connection, project=schedule.project, environment=key) for key in schedule.environments
    }
    return {
        key: stored.environment
        for key, stored in found.items()
        if stored is not None
        and stored.environment.approval_policy.approvals
        and {each.value for each in stored.environment.approval_policy.covers} & kinds.get(key, {"flag"})
    }
