"""Draw releases up, move them, and let them go on by themselves when their time has come."""

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy import Connection

from server.core.access import Action, Principal, Scope, allowing
from server.core.change_requests.machine import Approval
from server.core.errors import FlagstaffError, PermissionDenied, Stale, StoreCorrupt, StoreUnavailable
from server.core.limits import TEXT_CHARS_MAX
from server.core.releases.checking import check_plan
from server.core.releases.codec import write_event
from server.core.releases.machine import created, step
from server.core.releases.plan import Plan, Target
from server.core.releases.progress import (
    BEFORE_START,
    LIVE,
    Act,
    Answered,
    Blocked,
    Command,
    Event,
    Happening,
    Judged,
    Progress,
    Revised,
    State,
    Tick,
)
from server.core.releases.timing import next_at
from server.core.releases.walking import ITSELF, RETRY_S, Direction, Told
from server.operations.releases.going import (
    JUDGED_EVERY_S,
    By,
    Went,
    definitions_of,
    happen,
    lacking_of,
    owner_of,
    try_plan,
    turned_off_by_hand,
)
from server.operations.releases.telling import tell
from server.operations.writes import Outcome, Write, Writer, Written, require
from server.store import failpoints
from server.store.engine import reading
from server.store.locks import find_lock
from server.store.releases import (
    KIND,
    StoredRelease,
    find_due,
    find_known,
    find_next_at,
    insert_release,
    read_release,
    refuse_other_use,
)
from server.store.turns import take_turn

ID_BYTES: Final = 5
DUE_AT_ONCE: Final = 1_000
TOGETHER_MAX: Final = 16
"""Releases that are moved in one transaction: others who write to the project wait for it."""

Judgements: TypeAlias = Callable[[Connection, str, Collection[tuple[str, str]], datetime], Iterable[Judged]]
"""(project, (environment, guard) each, since when) -> what these guards said last, where they have said anything."""

log = logging.getLogger("flagstaff.releases")


def nothing_judged(
    _connection: Connection, _project: str, _guards: Collection[tuple[str, str]], _since: datetime
) -> Sequence[Judged]:
    """What is asked where nobody measures."""
    return ()


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""

    def __init__(self, went: Went) -> None:
        self.went = went


@dataclass(slots=True)
class Releases:
    """What people and time do with the releases of one database.

    Every write has further Errors: NotFound; PermissionDenied; Refused in a state that has no such step; Conflict for
    a request id that was used for something else; Stale when more has happened to it than the caller knew.
    """

    writer: Writer
    judgements: Judgements = nothing_judged
    name: str = "releases"

    def create(self, write: Write, *, project: str, plan: Plan) -> Went:
        """Draw a release up, after trying all of its steps. Errors: InvalidDefinition; as `commit`; TooLarge."""
        check_plan(plan)
        for environment in plan.environments():
            require(write.principal, Action.EDIT, Scope(project, environment))

        def work(connection: Connection) -> Went:
            known = find_known(connection, project=project, request_id=write.request_id)
            if known is not None:
                if known[1] != 1 or known[2].get("plan", {}).get("name") != plan.name:
                    raise refuse_other_use(write.request_id)
                return Went(read_release(connection, project=project, id=known[0]), Written(Outcome.APPLIED))
            stored = self._drawn_up(write, project, plan)
            by = By(write, write.principal.actor)
            tried = try_plan(self.writer, connection, stored, by)
            stored = replace(stored, next_at=next_at(stored.release, write.now, judged_every_s=JUDGED_EVERY_S))
            insert_release(connection, stored, request_id=write.request_id)
            told = Told(Happening.CREATED, write.principal.actor, write.reason, -1, -1)
            tell(connection, stored, told, actor=told.actor, cause=write.cause, revisions={})
            asking = tuple(f"{project}/{each} asks for approvals before it starts" for each in sorted(tried.asking))
            return Went(stored, Written(Outcome.APPLIED, warnings=asking), (told,))

        return self._carry_out(project, work, dry_run=write.dry_run)

    def _drawn_up(self, write: Write, project: str, plan: Plan) -> StoredRelease:
        principal = write.principal
        progress = Progress(State.CREATED, (principal.actor,), principal.actor, principal.grants)
        id = f"rel_{secrets.token_hex(ID_BYTES)}"
        return StoredRelease(project, id, created(plan, progress), {}, principal.actor, write.now, write.now)

    def revise(self, write: Write, *, project: str, id: str, plan: Plan) -> Went:
        """Have it do something else, before it starts; approvals are dropped. Errors: as `create`."""
        check_plan(plan)

        def event(connection: Connection, stored: StoredRelease) -> Event:
            for environment in plan.environments():
                require(write.principal, Action.EDIT, Scope(project, environment))
            if stored.release.progress.state in BEFORE_START:
                other = replace(stored, release=replace(stored.release, plan=plan))
                try_plan(self.writer, connection, other, By(write, write.principal.actor))
            return Revised(plan, write.principal.actor, write.principal.grants)

        return self._let(write, project, id, event, may=_edit)

    def command(
        self,
        write: Write,
        *,
        project: str,
        id: str,
        act: Act,
        text: str = "",
        step: int = 0,
        target: Target | None = None,
    ) -> Went:
        """Do what somebody asks for; a text is what they say to it. Errors: also what policies raise, as `commit`."""
        said = text or write.reason

        def event(connection: Connection, stored: StoredRelease) -> Event:
            principal = write.principal
            asked = Command(act, principal.actor, said, step, target, principal.grants)
            if act is Act.APPROVE and stored.release.progress.state is State.AWAITING_APPROVAL:
                _everywhere(principal, (Action.APPROVE,), stored)
            if act not in (Act.START, Act.APPROVE) or stored.release.progress.state not in BEFORE_START:
                return asked
            progress = stored.release.progress
            if act is Act.APPROVE:
                given = Approval(principal.actor, write.now, principal.grants)
                others = (each for each in progress.start_approvals if each.actor != principal.actor)
                progress = replace(progress, start_approvals=(*others, given))
            by = By(write, principal.actor)
            return replace(asked, lacking=lacking_of(self.writer, connection, stored, by, progress))

        return self._let(write, project, id, event, may=_MAY.get(act, _edit))

    def answer(self, write: Write, *, project: str, id: str, name: str, go: bool, text: str = "") -> Went:
        """Say go or no-go in the name of somebody outside."""
        answered = Answered(name, go, write.principal.actor, text or write.reason)
        return self._let(write, project, id, lambda _connection, _stored: answered, may=_edit)

    def roll_back(self, write: Write, project: str, id: str, target: Target | None = None) -> Went:
        """Take it back, at once: no approval, freeze or timer holds this up."""
        return self.command(write, project=project, id=id, act=Act.ROLL_BACK, target=target)

    def judge(self, write: Write, *, project: str, id: str, judged: Judged) -> Went:
        """Tell a release what a guard has just said, without waiting until it is asked; what comes of it is its own."""
        return self._let(write, project, id, lambda _connection, _stored: judged, may=_nobody_else, by_itself=True)

    def _let(
        self,
        write: Write,
        project: str,
        id: str,
        event_of: Callable[[Connection, StoredRelease], Event],
        *,
        may: "May",
        by_itself: bool = False,
    ) -> Went:
        def work(connection: Connection) -> Went:
            stored = read_release(connection, project=project, id=id)
            may(write.principal, stored)
            known = find_known(connection, project=project, request_id=write.request_id)
            if known is not None:
                return self._known(write, stored, known, event_of(connection, stored))
            if write.expected_version not in (None, stored.release.progress.event_count):
                raise Stale(
                    f"release {id} is at version {stored.release.progress.event_count}, expected "
                    f"{write.expected_version}; read it again"
                )
            by = owner_of(self.writer, stored, write.now) if by_itself else By(write, write.principal.actor)
            return happen(self.writer, connection, stored, event_of(connection, stored), by)

        return self._carry_out(project, work, dry_run=write.dry_run)

    def _known(
        self, write: Write, stored: StoredRelease, known: tuple[str, int, Mapping[str, object]], event: Event
    ) -> Went:
        id, _, before = known
        asked = write_event(event)
        if id != stored.id or any(before.get(name) != asked.get(name) for name in ("type", "act", "step", "name")):
            raise refuse_other_use(write.request_id)
        return Went(stored, Written(Outcome.APPLIED))

    def _carry_out(self, project: str, work: Callable[[Connection], Went], *, dry_run: bool) -> Went:
        def tried(connection: Connection) -> Went:
            went = work(connection)
            if dry_run:
                raise _TakenBack(went)
            return went

        try:
            return take_turn(self.writer.engine, f"project/{project}", tried)
        except _TakenBack as taken:
            return replace(taken.went, written=replace(taken.went.written, outcome=Outcome.WOULD_APPLY))

    def next_at(self, connection: Connection) -> datetime | None:
        """The earliest instant at which a release wants to be looked at; None when there is none."""
        return find_next_at(connection)

    def carry_on(self, now: datetime) -> None:
        """Look at every release whose time has come. Errors: StoreUnavailable; they are still due then."""
        with reading(self.writer.engine) as connection:
            due = find_due(connection, now=now, limit=DUE_AT_ONCE)
        for project in dict.fromkeys(project for project, _ in due):
            mine = [id for of, id in due if of == project]
            for start in range(0, len(mine), TOGETHER_MAX):
                self._carry_on_together(now, project, mine[start : start + TOGETHER_MAX])

    def _carry_on_together(self, now: datetime, project: str, ids: Sequence[str]) -> None:
        """Share a flush of the disk; what goes wrong with one is taken back alone."""

        def work(connection: Connection) -> None:
            for id in ids:
                stored = read_release(connection, project=project, id=id)
                if stored.next_at is None or stored.next_at > now:
                    # Another process was quicker.
                    continue
                failpoints.reach("release.due")
                savepoint = connection.begin_nested()
                try:
                    self._carry_on(connection, stored, now)
                except (StoreUnavailable, StoreCorrupt):
                    raise
                except FlagstaffError as error:
                    savepoint.rollback()
                    self._block(connection, stored, now, str(error)[:TEXT_CHARS_MAX])
                else:
                    savepoint.commit()
                failpoints.reach("release.carried_on")

        try:
            take_turn(self.writer.engine, f"project/{project}", work)
            failpoints.reach("release.committed")
        except StoreUnavailable:
            raise
        except Exception as error:
            # One that nobody foresaw must not hold up the others.
            if len(ids) > 1:
                for id in ids:
                    self._carry_on_together(now, project, [id])
            elif isinstance(error, FlagstaffError):
                log.warning("a release could not be carried on", extra={"id": ids[0], "error": str(error)})
            else:
                log.exception("a release could not be carried on", extra={"id": ids[0]})

    def _carry_on(self, connection: Connection, stored: StoredRelease, now: datetime) -> None:
        by = owner_of(self.writer, stored, now)
        progress = stored.release.progress
        if progress.state in LIVE:
            for judged in self._judged(connection, stored):
                stored = happen(self.writer, connection, stored, judged, by).stored
        event: Event = Tick()
        if progress.state in BEFORE_START:
            event = Tick(lacking_of(self.writer, connection, stored, by, progress))
        move, current = step(stored.release, event, now).move, None
        if move is not None and move.direction is Direction.FORWARD and progress.state in LIVE:
            current = definitions_of(connection, stored.project, stored.release.plan.subjects())
            killed = turned_off_by_hand(stored, current)
            if killed:
                event = Command(Act.PAUSE, ITSELF, killed)
        happen(self.writer, connection, stored, event, by, current)

    def _judged(self, connection: Connection, stored: StoredRelease) -> Iterable[Judged]:
        plan, progress = stored.release.plan, stored.release.progress
        checks = plan.steps[progress.step].gates.checks if 0 <= progress.step < len(plan.steps) else ()
        if not checks or progress.entered_at is None:
            return ()
        guards = {(environment, each.guard) for environment in plan.environments() for each in checks}
        return self.judgements(connection, stored.project, guards, progress.entered_at)

    def _block(self, connection: Connection, stored: StoredRelease, now: datetime, why: str) -> None:
        """Note why what was due could not be done; it is tried again."""
        if stored.release.progress.state in BEFORE_START | LIVE:
            event = Blocked(why, now + timedelta(seconds=RETRY_S))
            happen(self.writer, connection, stored, event, owner_of(self.writer, stored, now))


def running_on(connection: Connection, project: str, environment: str, flag: str) -> str:
    """The id of the release that moves a flag; "" when none does."""
    lock = find_lock(connection, project, environment=environment, flag=flag)
    kind, _, id = ("", "", "") if lock is None else lock.holder.partition(":")
    return id if kind == KIND else ""


May: TypeAlias = Callable[[Principal, StoredRelease], None]
"""Errors: PermissionDenied."""


def _everywhere(principal: Principal, actions: Sequence[Action], stored: StoredRelease) -> None:
    """Whether somebody may do one of these things in every environment that a release changes."""
    for environment in stored.release.plan.environments():
        scope = Scope(stored.project, environment)
        if not any(principal.may(action, scope) for action in actions):
            roles = " or ".join(
                f"`{role}`" for role in dict.fromkeys(role for each in actions for role in allowing(each))
            )
            raise PermissionDenied(
                f"{principal.actor} may not {' or '.join(actions)} in {stored.project}/{environment}; "
                f"it needs the role {roles} there"
            )


def _edit(principal: Principal, stored: StoredRelease) -> None:
    _everywhere(principal, (Action.EDIT,), stored)


def _stop(principal: Principal, stored: StoredRelease) -> None:
    _everywhere(principal, (Action.EDIT, Action.KILL), stored)


def _approve(principal: Principal, stored: StoredRelease) -> None:
    places = [Scope(stored.project, each) for each in stored.release.plan.environments()]
    if not any(principal.may(Action.APPROVE, each) for each in places):
        _everywhere(principal, (Action.APPROVE,), stored)


def _nobody_else(_principal: Principal, _stored: StoredRelease) -> None:
    """Only this server's own guards come here."""


_MAY: Final[Mapping[Act, May]] = {
    Act.APPROVE: _approve,
    Act.ROLL_BACK: _stop,
    Act.PAUSE: _stop,
    Act.HOLD: _stop,
}
