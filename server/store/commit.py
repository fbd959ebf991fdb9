"""Commit changes: the one door by which anything in the database moves.

Load, apply, validate, save, count the revision up, write the audit trail and the outbox: one transaction, which holds
the write lock from its start. Either all of it is there afterwards or none.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine, func, insert, select

from server.core.changes import Change, CreateEnvironment, CreateProject, UpdateEnvironment, apply_all
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.errors import Conflict, InvalidRequest, NotFound, Stale, TooLarge
from server.core.events import (
    EnvironmentCreated,
    EnvironmentUpdated,
    Event,
    FlagCreated,
    FlagRemoved,
    ProjectCreated,
    SegmentCreated,
    SegmentRemoved,
)
from server.core.limits import FLAGS_PER_SET_MAX, SEGMENTS_PER_SET_MAX, TEXT_CHARS_MAX
from server.store import failpoints, saving, tables
from server.store.decision import Decision, decide, records, shared_changes, validate
from server.store.elsewhere import plan_elsewhere
from server.store.engine import writing
from server.store.environments import StoredEnvironment, find_environment
from server.store.flagsets import Touched, touched_of
from server.store.garbage import collector_paused
from server.store.neighbourhood import load_neighbourhood, subjects_of
from server.store.replay import read_past
from server.store.saving import Cause
from server.store.sync_sizes import check_sync_sizes


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did; for a repeated request, what it did the first time."""

    revision: int
    events: tuple[Event, ...]
    touched: Touched
    unchanged: bool = False
    """Everything asked for was so already: no revision, no audit entry, no event."""

    elsewhere: Mapping[str, int] = field(default_factory=dict)
    """Revisions of other environments that this commit touched, because they share a flag's variants."""


def commit(  # noqa: PLR0913  (who, what, why and under which conditions are one sentence)
    engine: Engine,
    *,
    project: str,
    environment: str,
    changes: Sequence[Change],
    actor: str,
    now: datetime,
    reason: str = "",
    cause: str = "",
    request_id: str = "",
    expected_revision: int | None = None,
    replace_variants: bool = False,
) -> Committed:
    """Make changes to one environment, whole or not at all.

    A `request_id` that was used before gets its first answer and changes nothing. With `expected_revision` the
    environment must still be at it (0: not there yet). `replace_variants` allows a variant that other environments
    serve too to get another value. Only creating a project may leave the environment "".
    Errors: InvalidDefinition with every problem; InvalidRequest; NotFound; Conflict when it exists already or the
    request id was used for something else; Stale; TooLarge; StoreUnavailable; StoreCorrupt.
    """
    why = Cause(project, actor, now, reason, cause, request_id)
    order = _Order(project, environment, tuple(changes), why, expected_revision, replace_variants)
    _check_order(order)
    with collector_paused(len(changes)), writing(engine) as connection:
        failpoints.reach("commit.begin")
        committed = _repeated(connection, order) or _commit(connection, order)
        failpoints.reach("commit.before_commit")
    failpoints.reach("commit.after_commit")
    return committed


@dataclass(frozen=True, slots=True)
class _Order:
    project: str
    environment: str
    changes: Sequence[Change]
    why: Cause
    expected_revision: int | None
    replace_variants: bool

    @property
    def flag_set(self) -> str:
        return f"{self.project}/{self.environment}"

    @property
    def digest(self) -> str:
        content = repr((self.project, self.environment, self.changes, self.replace_variants))
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


def _check_order(order: _Order) -> None:
    why = order.why
    if not why.actor:
        raise InvalidRequest("a commit needs an actor: who or what makes the change")
    if why.now.tzinfo is None:
        raise InvalidRequest(f"instant {why.now} has no time zone")
    for name, text in (("actor", why.actor), ("reason", why.reason), ("cause", why.cause), ("id", why.request_id)):
        if len(text) > TEXT_CHARS_MAX:
            raise TooLarge(f"the commit's {name} has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")
    for change in order.changes:
        if isinstance(change, CreateProject) and change.key != order.project:
            raise InvalidRequest(f"a commit to project {order.project!r} cannot create project {change.key!r}")
        if isinstance(change, CreateEnvironment) and change.environment.flag_set != order.flag_set:
            raise InvalidRequest(f"a commit to {order.flag_set!r} cannot create {change.environment.flag_set!r}")
        if not order.environment and not isinstance(change, CreateProject):
            raise InvalidRequest(f"a commit with {type(change).__name__} needs an environment")


def _repeated(connection: Connection, order: _Order) -> Committed | None:
    if not order.why.request_id:
        return None
    columns = tables.requests.c
    row = connection.execute(
        select(columns.digest, columns.revision, columns.unchanged).where(
            columns.project == order.project, columns.id == order.why.request_id
        )
    ).first()
    if row is None:
        return None
    if row.digest != order.digest:
        raise Conflict(
            f"request id {order.why.request_id!r} was used for another change before; give each change its own"
        )
    past = read_past(connection, order.project, order.environment, request_id=order.why.request_id)
    return Committed(row.revision, past.events, touched_of(row.revision, past.subjects), row.unchanged, past.elsewhere)


def _commit(connection: Connection, order: _Order) -> Committed:
    stored = _find(connection, order)
    before = StoredEnvironment(Environment(order.project, order.environment), 0) if stored is None else stored
    subjects = subjects_of(order.changes)
    near = load_neighbourhood(connection, before.environment, subjects=subjects, whole=_concerns_all(order))
    after, events = apply_all(near.flag_set, order.changes)
    if events:
        committed = _write(connection, order, decide(before, near, after=after, events=events, subjects=subjects))
    else:
        committed = Committed(before.revision, (), Touched(before.revision), unchanged=True)
    if order.why.request_id:
        connection.execute(insert(tables.requests), _request_row(order, committed))
    return committed


def _concerns_all(order: _Order) -> bool:
    # Under another bucketing every flag is written out in another way, and must be sound there too.
    return any(isinstance(change, UpdateEnvironment) and change.bucketing is not None for change in order.changes)


def _find(connection: Connection, order: _Order) -> StoredEnvironment | None:
    has_project = _exists(connection, order.project)
    creates_project = any(isinstance(change, CreateProject) for change in order.changes)
    if has_project and creates_project:
        raise Conflict(f"project {order.project!r} exists already")
    if not has_project and not creates_project:
        raise NotFound(f"project {order.project!r} does not exist; create it first")
    stored = find_environment(connection, project=order.project, environment=order.environment)
    creates = any(isinstance(change, CreateEnvironment) for change in order.changes)
    if stored is not None and creates:
        raise Conflict(f"environment {order.flag_set!r} exists already")
    if stored is None and order.environment and not creates:
        raise NotFound(f"environment {order.flag_set!r} does not exist; create it first")
    revision = 0 if stored is None else stored.revision
    if order.expected_revision not in (None, revision):
        raise Stale(
            f"{order.flag_set!r} is at revision {revision}, expected {order.expected_revision}; "
            "read it again and repeat the change"
        )
    return stored


def _exists(connection: Connection, project: str) -> bool:
    columns = tables.projects.c
    return connection.execute(select(columns.key).where(columns.key == project)).first() is not None


def _write(connection: Connection, order: _Order, decision: Decision) -> Committed:
    problems = Problems()
    elsewhere = plan_elsewhere(
        connection,
        decision.after.environment,
        shared=list(shared_changes(decision)),
        replace_variants=order.replace_variants,
        problems=problems,
    )
    validate(decision, problems)
    problems.raise_if_any()
    _save(connection, order, decision)
    _check_sizes(connection, decision)
    check_sync_sizes(connection, decision, elsewhere=elsewhere)
    saving.save_records(connection, order.why, records=[*records(decision), *elsewhere], damaged=decision.near.damaged)
    return Committed(
        decision.revision,
        decision.events,
        touched_of(decision.revision, [(event.kind, event.key) for event in decision.events]),
        elsewhere={record.environment: record.revision for record in elsewhere},
    )


def _save(connection: Connection, order: _Order, decision: Decision) -> None:
    now = order.why.now
    environment, near, events = decision.after.environment, decision.near, decision.events
    for event in events:
        if isinstance(event, ProjectCreated):
            saving.save_project(connection, event.after, now=now)
        if isinstance(event, EnvironmentCreated | EnvironmentUpdated):
            is_new = isinstance(event, EnvironmentCreated)
            saving.save_environment(connection, environment, is_new=is_new, now=now)
    saving.save_segments(
        connection,
        environment,
        texts=decision.segment_texts,
        removed=[event.key for event in events if isinstance(event, SegmentRemoved)],
        stored=near,
    )
    saving.save_flags(
        connection,
        environment,
        flags={key: (decision.after.flags[key].flag, text) for key, text in decision.flag_texts.items()},
        removed=[event.key for event in events if isinstance(event, FlagRemoved)],
        stored=near,
    )
    saving.save_references(connection, environment, events=events, subjects=decision.subjects, damaged=near.damaged)


def _check_sizes(connection: Connection, decision: Decision) -> None:
    environment = decision.after.environment
    for created, table, most in (
        (FlagCreated, tables.flag_configs, FLAGS_PER_SET_MAX),
        (SegmentCreated, tables.segments, SEGMENTS_PER_SET_MAX),
    ):
        if not any(isinstance(event, created) for event in decision.events):
            continue
        mine = (table.c.project == environment.project) & (table.c.environment == environment.key)
        count = connection.execute(select(func.count()).select_from(table).where(mine)).scalar_one()
        if count > most:
            raise TooLarge(
                f"{environment.flag_set!r} would have {count} {table.name} rows, at most {most} are allowed; "
                "remove some, or use another environment or project"
            )


def _request_row(order: _Order, committed: Committed) -> dict[str, object]:
    return {
        "project": order.project,
        "id": order.why.request_id,
        "digest": order.digest,
        "environment": order.environment,
        "revision": committed.revision,
        "unchanged": committed.unchanged,
        "at": order.why.now,
    }
