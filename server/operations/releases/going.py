"""Let one event come to a release, in the transaction in which its flags move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from server.core.access import Action, Principal, Scope
from server.core.change_requests.approvals import lacking
from server.core.change_requests.codec import Content
from server.core.change_requests.machine import Progress as Asked
from server.core.change_requests.machine import State as AskedState
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.errors import ApprovalNeeded, FlagstaffError, Refused, StoreCorrupt, StoreUnavailable
from server.core.events import Event as FlagEvent
from server.core.flags import FlagDefinition
from server.core.limits import TEXT_CHARS_MAX
from server.core.policies import Permit, permit_all
from server.core.releases.foretelling import Foresight, changes_what_comes, coming
from server.core.releases.machine import step
from server.core.releases.patches import Definitions, content_of_move, narrowed
from server.core.releases.plan import Plan, Subject
from server.core.releases.progress import ENDED, GOING, Act, Command, Event, Happening, Judged, Progress, Release, Tick
from server.core.releases.timing import next_at
from server.core.releases.walking import ITSELF, Direction, Move, Outcome, Told
from server.operations.releases.telling import tell
from server.operations.requesting import Tried, parts_of, try_content
from server.operations.writes import Outcome as WriteOutcome
from server.operations.writes import Write, Writer, Written, may_bypass, written_of
from server.store.commit import commit_within
from server.store.flagsets import load_documents
from server.store.locks import STOPPED, Key, find_lock, give_back_locks, named, take_locks
from server.store.mapping import parse_flag
from server.store.releases import StoredRelease, save_event, save_next_at
from server.store.saving import Cause

JUDGED_EVERY_S: Final = 5.0
"""How often guards are asked while a step waits for what they say; a breach does not wait for it."""

SKEW_MAX: Final = timedelta(seconds=5)
"""Servers' clocks differ by so much at most; by more one was set."""


@dataclass(frozen=True, slots=True)
class Went:
    """How a release is after something came to it."""

    stored: StoredRelease
    written: Written = field(default_factory=lambda: Written(WriteOutcome.UNCHANGED))
    told: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True)
class By:
    """Who lets an event come, and how."""

    write: Write
    """Whose right it is, when and why."""

    actor: str
    """As the audit trail names them."""

    cause: str = ""


def owner_of(writer: Writer, stored: StoredRelease, now: datetime, *, cause: str = "") -> By:
    """The release by itself, with what its owner may do now, or may do by what was known then."""
    progress = stored.release.progress
    principal = writer.who_is(progress.owner) or Principal(progress.owner, progress.owner_grants)
    return By(Write(principal, Action.EDIT, now), stored.holder, cause)


def _not_before(stored: StoredRelease, now: datetime) -> datetime:
    """What comes later is later, also where the clock of whoever lets it come is a little behind another's.

    Else a step that waits for an approval would find, when that comes, that its time is not over.
    """
    return stored.updated_at if stored.updated_at - SKEW_MAX <= now < stored.updated_at else now


def happen(
    writer: Writer,
    connection: Connection,
    stored: StoredRelease,
    event: Event,
    by: By,
    current: Definitions | None = None,
) -> Went:
    """What comes of an event, with its changes, its log and what is told, all in the caller's transaction.

    `current` are the release's flags as they are, where the caller has read them already.
    Errors: Refused for what cannot happen; what policies raise; as `commit`.
    """
    by = replace(by, write=replace(by.write, now=_not_before(stored, by.write.now)))
    now = by.write.now
    if stored.next_at == STOPPED and stored.release.progress.state in GOING and isinstance(event, Tick | Judged):
        current = definitions_of(connection, stored.project, stored.release.plan.subjects())
        killed = turned_off_by_hand(stored, current)
        event = Command(Act.PAUSE, ITSELF, killed) if killed else event
    outcome = step(stored.release, event, now)
    if outcome.release is stored.release:
        save_next_at(connection, stored, next_at(stored.release, now, judged_every_s=JUDGED_EVERY_S))
        return Went(stored)
    cause = by.cause or _cause_of(event, stored)
    happened = {each.happening for each in outcome.told}
    anchors = stored.anchors
    if happened & {Happening.STARTED}:
        anchors = _begin(connection, stored, outcome.release.plan)
    elif happened & {Happening.RESTARTED}:
        _lock(connection, stored, outcome.release.plan)
    elif Happening.ROLLED_BACK in happened and stored.release.progress.state in ENDED:
        _refuse_others(connection, stored)
    after = replace(stored, release=outcome.release, anchors=anchors, updated_at=now)
    after = replace(after, next_at=next_at(after.release, now, judged_every_s=JUDGED_EVERY_S))
    written = Written(WriteOutcome.APPLIED)
    if outcome.move is not None:
        written = _move(writer, connection, stored, after, outcome, by, cause, current)
    elif changes_what_comes(stored.release, outcome.release):
        written = _foretell(writer, connection, stored, after, outcome, by, cause)
    save_event(
        connection,
        stored,
        after,
        event=event,
        told=outcome.told,
        move=outcome.move,
        revisions=written.revisions,
        actor=by.actor,
        cause=cause,
        request_id=by.write.request_id,
    )
    for told in outcome.told:
        tell(
            connection,
            after,
            told,
            actor=told.actor or stored.holder,
            cause=cause,
            revisions=written.revisions,
            event=event,
        )
    if after.release.progress.state in ENDED:
        give_back_locks(connection, stored.project, holder=stored.holder)
    return Went(after, written, outcome.told)


def definitions_of(connection: Connection, project: str, subjects: Sequence[Subject]) -> dict[Subject, FlagDefinition]:
    """The flags as they are now; one that is not there is left out. Errors: NotFound for an environment that is not
    there; InvalidDefinition for a flag that is damaged.
    """
    found: dict[Subject, FlagDefinition] = {}
    for environment in dict.fromkeys(environment for environment, _ in subjects):
        keys = [flag for of, flag in subjects if of == environment]
        documents = load_documents(connection, project=project, environment=environment, flags=keys, segments=[])
        for key, document in documents.flags.items():
            problems = Problems()
            definition = parse_flag(key, document, problems=problems)
            problems.raise_if_any()
            if definition is not None:
                found[environment, key] = definition
    return found


def try_plan(writer: Writer, connection: Connection, stored: StoredRelease, by: By) -> Tried:
    """Try all steps, as if they came at once, one after another. Errors: as `commit`, and PermissionDenied."""
    plan = stored.release.plan
    current = definitions_of(connection, stored.project, plan.subjects())
    tried: Tried | None = None
    for index in range(len(plan.steps)):
        move, sight = Move(Direction.FORWARD, -1, index), Foresight(by.write.now)
        content = _content(stored.release, move, current, current, sight=sight)
        if content.parts:
            why = replace(_why(stored, by, "tried", ""), key=Key(stored.holder, only_tries=True))
            tried = try_content(connection, content, why, permit=writer.access(by.write))
    return tried or Tried({}, {}, {}, {})


def lacking_of(writer: Writer, connection: Connection, stored: StoredRelease, by: By, progress: Progress) -> str:
    """What the environments' own policies ask for before all of a release may happen; "" for nothing."""
    tried = try_plan(writer, connection, stored, owner_of(writer, stored, by.write.now))
    asked = _asked(progress)
    left = [
        lacking(asked, environment, tried.events.get(key, ()), who_is=writer.who_is)
        for key, environment in tried.asking.items()
    ]
    left = [each for each in left if each]
    if left and by.write.bypass_approval:
        for key in tried.asking:
            may_bypass(by.write, Scope(stored.project, key), "; ".join(left))
        return ""
    return "; ".join(left)


def turned_off_by_hand(stored: StoredRelease, current: Definitions) -> str:
    """Which flag of a release somebody has turned off, where the release itself leaves that alone; "" for none."""
    own = {(each.environment, each.flag) for each in stored.release.plan.patches() if each.enabled is not None}
    for subject, definition in current.items():
        anchor = stored.anchors.get(subject)
        if subject not in own and anchor is not None and anchor.is_on and not definition.is_on:
            return f"flag {subject[1]} was turned off in {subject[0]}; turn it on and resume, or roll back"
    return ""


def _begin(connection: Connection, stored: StoredRelease, plan: Plan) -> Mapping[Subject, FlagDefinition]:
    """Keep what is there now, and let no second release move it. Errors: Refused, NotFound."""
    _lock(connection, stored, plan)
    current = definitions_of(connection, stored.project, plan.subjects())
    for problem in narrowed(plan, current):
        raise Refused(problem)
    return current


def _lock(connection: Connection, stored: StoredRelease, plan: Plan) -> None:
    take_locks(connection, stored.project, subjects=plan.subjects(), holder=stored.holder, locks=plan.locks)


def _refuse_others(connection: Connection, stored: StoredRelease) -> None:
    for environment, flag in stored.release.plan.subjects():
        other = find_lock(connection, stored.project, environment=environment, flag=flag)
        if other is not None and other.holder != stored.holder:
            raise Refused(f"{named(other.holder)} moves flag {flag!r} in {environment!r} by now; roll that one back")


def _move(
    writer: Writer,
    connection: Connection,
    before: StoredRelease,
    after: StoredRelease,
    outcome: Outcome,
    by: By,
    cause: str,
    current: Definitions | None,
) -> Written:
    move, told = outcome.move, outcome.told[-1]
    assert move is not None  # The caller has one.
    by_itself = all(each.actor == ITSELF for each in outcome.told if each.from_step != each.to_step)
    mover = owner_of(writer, after, by.write.now) if by_itself and by.actor != before.holder else by
    if told.happening is Happening.ROLLED_BACK:
        return _roll_back(connection, before, after, move, mover, told, cause)
    if current is None:
        current = definitions_of(connection, before.project, after.release.plan.subjects())
    sight = _sight(after, by)
    was_off = before.release.progress.was_off
    content = _content(after.release, move, after.anchors, current, was_off=was_off, sight=sight)
    permit = writer.permit(mover.write, _approvals(writer, after.release.progress, mover.write))
    return _commit(connection, content, _why(before, mover, _said(after, told), cause), permit)


def _roll_back(
    connection: Connection,
    before: StoredRelease,
    after: StoredRelease,
    move: Move,
    by: By,
    told: Told,
    cause: str,
) -> Written:
    """Back to what was there; where that cannot be any more, the flags are turned off, which always can."""
    why = _why(before, by, _said(after, told), cause)
    savepoint = connection.begin_nested()
    try:
        current = definitions_of(connection, before.project, after.release.plan.subjects())
        was_off = before.release.progress.was_off
        content = _content(after.release, move, after.anchors, current, was_off=was_off, sight=_sight(after, by))
        written = _commit(connection, content, why, permit_all)
    except (StoreUnavailable, StoreCorrupt):
        raise
    except FlagstaffError as error:
        savepoint.rollback()
        off = Move(Direction.OFF, move.from_step, move.to_step)
        content = _content(after.release, off, after.anchors, after.anchors, sight=_sight(after, by))
        reason = f"{why.reason}; turned off, since what was there cannot be put back: {error}"[:TEXT_CHARS_MAX]
        written = _commit(connection, content, replace(why, reason=reason), permit_all)
        return replace(written, warnings=(*written.warnings, reason))
    savepoint.commit()
    return written


def _commit(connection: Connection, content: Content, why: Cause, permit: Permit) -> Written:
    if not content.parts:
        return Written(WriteOutcome.APPLIED)
    committed = commit_within(connection, parts=parts_of(content, {}), why=why, permit=permit)
    return replace(written_of(committed, dry_run=False), outcome=WriteOutcome.APPLIED)


def _content(
    release: Release,
    move: Move,
    anchors: Mapping[Subject, FlagDefinition],
    current: Mapping[Subject, FlagDefinition],
    *,
    was_off: bool = False,
    sight: Foresight,
) -> Content:
    return content_of_move(release.plan, move, anchors=anchors, current=current, was_off=was_off, sight=sight)


def _sight(after: StoredRelease, by: By) -> Foresight:
    return Foresight(by.write.now, coming(after.release))


def _foretell(
    writer: Writer,
    connection: Connection,
    before: StoredRelease,
    after: StoredRelease,
    outcome: Outcome,
    by: By,
    cause: str,
) -> Written:
    """Have the clock take other steps from now on, or none; that it takes none is never held up."""
    here = after.release.progress.step
    current = definitions_of(connection, before.project, after.release.plan.subjects())
    sight = _sight(after, by)
    content = _content(after.release, Move(Direction.FORWARD, here, here), after.anchors, current, sight=sight)
    asked = writer.permit(by.write, _approvals(writer, after.release.progress, by.write))
    permit: Permit = asked if sight.coming else permit_all
    return _commit(connection, content, _why(before, by, _said(after, outcome.told[-1]), cause), permit)


def _why(stored: StoredRelease, by: By, reason: str, cause: str) -> Cause:
    write = by.write
    emergency = write.bypass_approval and bool(write.reason.strip())
    key = Key(stored.holder, write.principal if emergency else None)
    return Cause(stored.project, by.actor, write.now, reason[:TEXT_CHARS_MAX], cause, "", key)


def _said(stored: StoredRelease, told: Told) -> str:
    plan = stored.release.plan
    place = plan.steps[told.to_step].name if 0 <= told.to_step < len(plan.steps) else "before the first step"
    return f"{plan.name}: {told.happening}, {place}{f': {told.text}' if told.text else ''}"


def _cause_of(event: Event, stored: StoredRelease) -> str:
    if isinstance(event, Judged):
        return event.evaluation or f"guard:{event.guard}"
    return f"{stored.holder}#{stored.release.progress.event_count + 1}"


def _approvals(writer: Writer, progress: Progress, write: Write) -> Permit:
    """Ask whether the approvals that the release had before its start still count, by the policies of now."""
    asked = _asked(progress)

    def permit(environment: Environment, events: Sequence[FlagEvent]) -> None:
        needed = lacking(asked, environment, events, who_is=writer.who_is)
        if needed and write.bypass_approval:
            may_bypass(write, Scope(environment.project, environment.key), needed)
        elif needed:
            raise ApprovalNeeded(f"the release cannot go on yet: {needed}")

    return permit


def _asked(progress: Progress) -> Asked:
    return Asked(AskedState.OPEN, progress.authors, Action.EDIT, approvals=progress.start_approvals)
