"""Look through flags by the clock, and tell which are of no more use, and which are again.

Nothing in a commit waits for this. What was changed stands in the audit trail, which is read on from where the last
look ended; everything else happens at an instant that stands with the flag and is found by an index. What is decided is
decided from what was read, and kept in one transaction with what is told of it, where it is compared with what stands
there: so of several processes that look at the same time, one does it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.flags import Flag
from server.core.limits import STALE_PORTION
from server.core.staleness import (
    Assessment,
    Exempt,
    Facts,
    StalePolicy,
    StaleRule,
    StaleState,
    assess,
    exempt_of,
    lifetime_of,
    served_by_all,
)
from server.operations.staleness.telling import Turn, happening, occurrence
from server.store.engine import reading, writing
from server.store.occurrences import note
from server.store.stale_evidence import Written, created_at, last_changes, read_written
from server.store.staleness import (
    SCANNED_MAX,
    StoredStaleness,
    due_flags,
    first_at,
    forget_stored,
    keys_behind,
    projects_behind,
    read_look,
    read_stored,
    save_look,
    save_stored,
    touched_flags,
)

FIRST_LOOK: Final = timedelta(seconds=60)
"""A server that has just started has other things to do."""

LOOK_EVERY: Final = timedelta(seconds=15)
"""Between two looks for what was changed."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be kept of a flag, and told."""

    flag: Flag
    before: StoredStaleness | None
    after: StoredStaleness
    assessed: Assessment
    holders: tuple[str, ...] = ()
    """What is still to change it."""

    @property
    def state_before(self) -> StaleState:
        """What it was; a flag that nobody had looked at counts as active."""
        return StaleState.ACTIVE if self.before is None else self.before.state


@dataclass(slots=True)
class Sweeping:
    """Timed work: what looks through one database's flags. Units: clock gives aware instants."""

    engine: Engine
    clock: Callable[[], datetime]
    name: str = "staleness"
    _look_at: datetime | None = None

    def next_at(self, connection: Connection) -> datetime | None:
        """When a flag is due, or is to be looked for what was changed."""
        if self._look_at is None:
            self._look_at = self.clock() + FIRST_LOOK
        first = first_at(connection)
        return self._look_at if first is None else min(first, self._look_at)

    def carry_on(self, now: datetime) -> None:
        """Look at all that is due. Errors: StoreUnavailable, StoreCorrupt."""
        self._carry_on_due(now)
        if self._look_at is None or self._look_at <= now:
            self.look(now)
            self._look_at = now + LOOK_EVERY

    def look(self, now: datetime) -> None:
        """Look at every flag that was changed since somebody looked. Errors: StoreUnavailable, StoreCorrupt."""
        with reading(self.engine) as connection:
            behind = projects_behind(connection)
        for project in behind:
            while self._look_on(project, now):
                pass

    def _carry_on_due(self, now: datetime) -> None:
        while True:
            with reading(self.engine) as connection:
                due = due_flags(connection, now=now, limit=STALE_PORTION)
            for project in dict.fromkeys(project for project, _ in due):
                look_at_flags(self.engine, project, [key for of, key in due if of == project], now)
            if len(due) < STALE_PORTION:
                return

    def _look_on(self, project: str, now: datetime) -> bool:
        """Look at some of a project's flags; whether there are more."""
        with reading(self.engine) as connection:
            look = read_look(connection, project)
            touched = touched_flags(connection, project, behind=look.sequence)
            filled_after = "" if touched.everything else look.filled_after
            keys = touched.keys
            if filled_after is not None and not touched.everything:
                fill = keys_behind(connection, project, after=filled_after, limit=STALE_PORTION)
                filled_after = fill[-1] if len(fill) == STALE_PORTION else None
                keys |= frozenset(fill)
        parts = [sorted(keys)[start : start + STALE_PORTION] for start in range(0, len(keys), STALE_PORTION)]
        for part in parts:
            look_at_flags(self.engine, project, part, now, removed=touched.removed)
        after = replace(look, sequence=touched.sequence, filled_after=filled_after)
        with writing(self.engine, about=f"project/{project}", unhurried=True, tells=False) as connection:
            # Where another process has gone on meanwhile, it has looked at the same; what it knows better stays.
            if read_look(connection, project) == look and after != look:
                save_look(connection, after)
        # What came meanwhile is for the next look: a busy project must not hold up the others.
        return filled_after is not None or touched.sequence - look.sequence >= SCANNED_MAX


def look_at_flags(
    engine: Engine, project: str, keys: Collection[str], now: datetime, *, removed: Collection[str] = ()
) -> None:
    """Decide of some flags of a project what they are now. `removed` were gone meanwhile, and may be others."""
    with reading(engine) as connection:
        policy = read_look(connection, project).policy
        stored = read_stored(connection, project, keys)
        written = read_written(connection, project, keys)
        decisions = [
            decide(
                connection, project, written[key], before=stored.get(key), policy=policy, now=now, is_new=key in removed
            )
            for key in sorted(written)
        ]
    changed = [each for each in decisions if each.after != each.before]
    unread = [key for key in keys if key in stored and key not in written]
    if not changed and not unread:
        return
    tells = any(happening(each.state_before, each.after.state) for each in changed)
    with writing(engine, about=f"project/{project}", unhurried=True, tells=tells) as connection:
        keep(connection, project, changed, now)
        if unread:
            _put_aside(connection, project, {key: stored[key] for key in unread})


def decide(
    connection: Connection,
    project: str,
    written: Written,
    *,
    before: StoredStaleness | None,
    policy: StalePolicy,
    now: datetime,
    is_new: bool = False,
) -> Decision:
    """What a flag is now."""
    flag = next(iter(written.definitions.values())).flag
    facts = facts_of(connection, project, written, before=None if is_new else before, policy=policy, now=now)
    assessed = assess(facts, policy, now)
    is_marked = any(reason.rule is StaleRule.MARKED for reason in assessed.reasons)
    if written.holders and assessed.reasons and not is_marked:
        facts = replace(facts, exempt=Exempt.HELD)
        assessed = assess(facts, policy, now)
    kept = replace(facts, noticed_at=assessed.noticed_at)
    said_by, said = ("", "") if before is None else (before.said_by, before.said)
    after = StoredStaleness(
        flag.key, assessed.state, kept, assessed.stale_at, assessed.next_at, said_by=said_by, said=said
    )
    return Decision(flag, before, after, assessed, written.holders)


def facts_of(
    connection: Connection,
    project: str,
    written: Written,
    *,
    before: StoredStaleness | None,
    policy: StalePolicy,
    now: datetime,
) -> Facts:
    """What is written of a flag, with what people said of it and what was told before."""
    flag = next(iter(written.definitions.values())).flag
    since = created_at(connection, project, flag.key) if before is None else before.facts.created_at
    facts = Facts(
        created_at=since or written.changed_at,
        changed_at=written.changed_at,
        served=served_by_all(written.counting.values(), now),
        lifetime_days=lifetime_of(flag, policy),
        exempt=exempt_of(flag, policy),
    )
    if before is None:
        return facts
    known = before.facts
    return replace(facts, snoozed_until=known.snoozed_until, marked_at=known.marked_at, noticed_at=known.noticed_at)


def keep(connection: Connection, project: str, decisions: Sequence[Decision], now: datetime) -> None:
    """Keep what was decided and tell of it, where what it rests on is still so."""
    keys = [each.flag.key for each in decisions]
    known = read_stored(connection, project, keys)
    changes = last_changes(connection, project, keys)
    still = [
        each
        for each in decisions
        if known.get(each.flag.key) == each.before and changes.get(each.flag.key) == each.after.facts.changed_at
    ]
    save_stored(connection, project, [each.after for each in still], known=known)
    for each in still:
        type_ = happening(each.state_before, each.after.state)
        if type_:
            turn = Turn(project, each.flag, each.after.facts, each.state_before, each.assessed, now)
            note(connection, occurrence(type_, turn, by=_by(each)))


def _put_aside(connection: Connection, project: str, unread: Mapping[str, StoredStaleness]) -> None:
    """Forget flags that are gone, and wait with those that cannot be read until somebody mends them."""
    there = last_changes(connection, project, list(unread), only_there=True)
    forget_stored(connection, project, [key for key in unread if key not in there])
    damaged = [replace(each, next_at=None) for key, each in unread.items() if key in there]
    save_stored(connection, project, damaged, known=unread)


def _by(decision: Decision) -> str:
    """What made a flag active again; "" when it is not."""
    after, before = decision.after, decision.before
    if after.state is StaleState.SNOOZED:
        return "snooze"
    if after.state is not StaleState.ACTIVE or before is None:
        return ""
    if after.facts.exempt is not None:
        return after.facts.exempt.value
    return "activity" if after.facts.changed_at > before.facts.changed_at else "settings"
