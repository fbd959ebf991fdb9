"""Keep what rules are to do and have done: each event once for each rule, claimed with a lease, finished once."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Executable, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from server.core.limits import RULE_RUNS_KEPT
from server.core.rules.rules import PER_MINUTE, RunState
from server.store.columns import POSTGRESQL
from server.store.rule_tables import rule_runs, rules
from webhooks.rates import Bucket, Rate, take, wait_s

_RUN: Final = rule_runs.c


@dataclass(frozen=True, slots=True)
class NewRun:
    """An event that a rule is to answer."""

    project: str
    rule: str
    event: str
    sequence: int
    event_type: str
    hops: int
    request: str
    """What is asked for, as JSON text; "" when it could not be made."""

    result: str = ""
    """Why it could not be made."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is kept."""

    project: str
    rule: str
    event: str
    sequence: int
    event_type: str
    hops: int
    state: RunState
    request: str
    result: str
    attempt_count: int
    due_at: datetime | None
    claim: str
    created_at: datetime
    finished_at: datetime | None


def next_due(connection: Connection) -> datetime | None:
    """When a run is to be tried next, of all projects."""
    at: datetime | None = connection.execute(select(func.min(_RUN.due_at))).scalar()
    return at


def add_runs(connection: Connection, runs: Sequence[NewRun], *, now: datetime) -> None:
    """Keep what is to be done; an event that its rule answers already is passed over."""
    rows = [
        {
            "project": each.project,
            "rule": each.rule,
            "event": each.event,
            "sequence": each.sequence,
            "event_type": each.event_type,
            "hops": each.hops,
            "state": RunState.PENDING.value,
            "request": each.request,
            "result": each.result,
            "attempt_count": 0,
            "due_at": now,
            "claim": "",
            "created_at": now,
            "finished_at": None,
        }
        for each in runs
    ]
    if rows:
        connection.execute(_insert(connection.dialect.name), rows)


def waiting(connection: Connection, project: str) -> dict[str, int]:
    """Rule -> how many of its runs wait."""
    query = select(_RUN.rule, func.count()).where(_RUN.project == project, _RUN.due_at.is_not(None)).group_by(_RUN.rule)
    return {rule: count for rule, count in connection.execute(query)}


def claim_runs(connection: Connection, *, claim: str, lease_s: float, now: datetime, limit: int) -> list[StoredRun]:
    """Take due runs, those that wait longest first; where a rule's rate is spent, its runs wait.

    `claim` is new for every call. The caller's transaction is the only one that claims.
    """
    query = select(rule_runs).where(_RUN.due_at <= now).order_by(_RUN.due_at, _RUN.sequence).limit(limit)
    due = [_stored(row) for row in connection.execute(query).mappings()]
    taken: list[StoredRun] = []
    for project, rule in dict.fromkeys((each.project, each.rule) for each in due):
        mine = [each for each in due if (each.project, each.rule) == (project, rule)]
        # One that was begun is gone on with, whatever the rate.
        fresh = [each for each in mine if each.attempt_count == 0]
        granted, rest_s = _take_tokens(connection, project, rule, wanted=len(fresh), now=now)
        later = {each.event for each in fresh[granted:]}
        for each in mine:
            if each.event in later:
                _set(connection, each, due_at=now + timedelta(seconds=max(rest_s, 0.05)))
            else:
                taken.append(each)
    until = now + timedelta(seconds=lease_s)
    claimed = [
        replace(each, state=RunState.CLAIMED, attempt_count=each.attempt_count + 1, due_at=until, claim=claim)
        for each in taken
    ]
    for each in claimed:
        _set(connection, each, state=each.state.value, claim=claim, due_at=until, attempt_count=each.attempt_count)
    return claimed


def finish(connection: Connection, run: StoredRun, *, state: RunState, result: str, now: datetime) -> bool:
    """Keep what came of a claimed run; False when its claim is another's now, who says it then."""
    values = {"state": state.value, "result": result, "claim": "", "due_at": None, "finished_at": now}
    return _set_claimed(connection, run, values)


def postpone(connection: Connection, run: StoredRun, *, result: str, due_at: datetime) -> bool:
    """Have a claimed run tried again; False when its claim is another's now."""
    values = {"state": RunState.PENDING.value, "result": result, "claim": "", "due_at": due_at}
    return _set_claimed(connection, run, values)


def drop_waiting(connection: Connection, project: str, rule: str, *, why: str, now: datetime) -> int:
    """Refuse all that waits of a rule. Shapes: how many."""
    found = connection.execute(
        update(rule_runs)
        .where(_RUN.project == project, _RUN.rule == rule, _RUN.due_at.is_not(None))
        .values(state=RunState.REFUSED.value, result=why, claim="", due_at=None, finished_at=now)
    )
    return found.rowcount


def list_runs(
    connection: Connection,
    project: str,
    rule: str,
    *,
    states: Collection[RunState] = (),
    before: int | None = None,
    limit: int = 100,
) -> list[StoredRun]:
    """What a rule does and has done, the newest event first; `before` goes on where a page ended."""
    query = select(rule_runs).where(_RUN.project == project, _RUN.rule == rule)
    if states:
        query = query.where(_RUN.state.in_([each.value for each in states]))
    if before is not None:
        query = query.where(_RUN.sequence < before)
    rows = connection.execute(query.order_by(_RUN.sequence.desc()).limit(limit)).mappings()
    return [_stored(row) for row in rows]


def trim(connection: Connection, project: str, rule: str) -> None:
    """Forget the oldest runs that are over, beyond those that are kept."""
    mine = (_RUN.project == project) & (_RUN.rule == rule) & _RUN.due_at.is_(None)
    newest = select(_RUN.sequence).where(mine).order_by(_RUN.sequence.desc())
    last = connection.execute(newest.offset(RULE_RUNS_KEPT).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(rule_runs).where(mine, _RUN.sequence <= last))


def _take_tokens(connection: Connection, project: str, rule: str, *, wanted: int, now: datetime) -> tuple[int, float]:
    """How many runs a rule may begin now, and seconds until the next."""
    query = select(rules.c.tokens, rules.c.counted_at_s, rules.c.document).where(
        rules.c.project == project, rules.c.id == rule
    )
    row = connection.execute(query).first()
    if row is None or not wanted:
        return wanted, 0.0
    rate = rate_of(row.document)
    before = Bucket(row.tokens, row.counted_at_s)
    after, taken = take(before, rate, now_s=now.timestamp(), wanted=wanted)
    mine = (rules.c.project == project) & (rules.c.id == rule)
    connection.execute(update(rules).where(mine).values(tokens=after.tokens, counted_at_s=after.counted_at_s))
    return taken, wait_s(after, rate, now.timestamp())


def rate_of(document: str) -> Rate:
    """A rule's rate: so many in a minute, and a tenth of them at once."""
    per_minute = int(json.loads(document).get("per_minute", PER_MINUTE))
    return Rate(per_minute / 60, max(1, per_minute // 10))


def _set(connection: Connection, run: StoredRun, **values: Any) -> None:
    connection.execute(update(rule_runs).where(_is(run)).values(**values))


def _set_claimed(connection: Connection, run: StoredRun, values: dict[str, Any]) -> bool:
    changed = connection.execute(update(rule_runs).where(_is(run), _RUN.claim == run.claim).values(**values))
    return changed.rowcount == 1


def _is(run: StoredRun) -> Any:
    return (_RUN.project == run.project) & (_RUN.rule == run.rule) & (_RUN.event == run.event)


def _insert(dialect: str) -> Executable:
    if dialect == POSTGRESQL:
        return postgresql.insert(rule_runs).on_conflict_do_nothing()
    return sqlite.insert(rule_runs).on_conflict_do_nothing()


def _stored(row: Any) -> StoredRun:
    return StoredRun(**{**row, "state": RunState(row["state"])})
