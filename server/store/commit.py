"""Commit changes: the one door by which anything in the database moves.

Load, apply, validate, save, count the revision up, write the audit trail and the outbox: one transaction, which holds
the write lock from its start. Either all of it is there afterwards or none.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select

from server.core.access import Scope
from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    DeleteEnvironment,
    DeleteProject,
    Preview,
    UpdateEnvironment,
    UpdateProject,
    preview_all,
)
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.errors import Conflict, NotFound, TooLarge
from server.core.events import (
    EnvironmentDeleted,
    FlagCreated,
    FlagRemoved,
    ProjectDeleted,
    SegmentCreated,
    SegmentRemoved,
    SegmentUpdated,
)
from server.core.limits import FLAGS_PER_SET_MAX, SEGMENTS_PER_SET_MAX
from server.core.policies import Permit, is_kill, permit_all
from server.core.projects import apply_to_project
from server.store import failpoints, saving, tables
from server.store.conditions import check_stored_revision, compared
from server.store.decision import Decision, decide, only_writes, project_record, records, shared_changes, validate
from server.store.elsewhere import plan_elsewhere
from server.store.environments import StoredEnvironment, last_revision
from server.store.flagsets import Touched, touched_of
from server.store.garbage import collector_paused
from server.store.keylists import bring_keys, check_key_bytes, load_key_lists, save_key_list
from server.store.locks import check_locks, stop_movers
from server.store.neighbourhood import load_neighbourhood, refuse_damaged, subjects_of, with_keys
from server.store.orders import Committed, Observe, Order, Part, Seen, check_order, observe_nothing
from server.store.places import empty_environment, save_environment_event, save_project_event
from server.store.repeats import answered_before, note_answer
from server.store.saving import Cause
from server.store.standing import Place, find_place, read_standing
from server.store.statements import together
from server.store.sync_sizes import (
    SyncCount,
    check_total,
    count_change,
    forget_counts,
    note_counts,
    total_of,
    unsent_flags,
)
from server.store.tokens import end_tokens
from server.store.turns import take_turn
from server.store.versions import NO_VERSIONS, Thing, check_flag_versions, check_versions

__all__ = [
    "Committed",
    "Observe",
    "Part",
    "Seen",
    "commit",
    "commit_all",
    "commit_within",
    "try_within",
]


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
    expected_versions: Mapping[Thing, int] = NO_VERSIONS,
    replace_variants: bool = False,
    permit: Permit = permit_all,
    dry_run: bool = False,
) -> Committed:
    """Make changes to one environment, whole or not at all.

    A `request_id` that was used before gets its first answer and changes nothing. `replace_variants` allows a variant
    that other environments serve too to get another value. `permit` may refuse what would happen. A dry run does
    everything, tells what came of it, and takes it back.
    Errors: InvalidDefinition with every problem; InvalidRequest; NotFound; Conflict when it exists already or the
    request id was used for something else; Stale; TooLarge; StoreUnavailable; StoreCorrupt; what `permit` raises.
    """
    part = Part(environment, tuple(changes), expected_revision, expected_versions)
    why = Cause(project, actor, now, reason, cause, request_id)
    return commit_all(
        engine, parts=(part,), why=why, replace_variants=replace_variants, permit=permit, dry_run=dry_run
    )[environment]


def commit_all(
    engine: Engine,
    *,
    parts: Sequence[Part],
    why: Cause,
    replace_variants: bool = False,
    permit: Permit = permit_all,
    observe: Observe = observe_nothing,
    dry_run: bool = False,
) -> dict[str, Committed]:
    """Make changes to several environments of a project, in this order, as one commit.

    Shapes: environment -> what was done there. Errors: as `commit`.
    """
    order = Order(why.project, tuple(parts), why, replace_variants, permit, observe)
    check_order(order)
    change_count = sum(len(part.changes) for part in parts)

    def work(connection: Connection) -> dict[str, Committed]:
        with collector_paused(change_count):
            failpoints.reach("commit.begin")
            committed = answered_before(connection, order) or _commit(connection, order)
            if dry_run:
                raise _TakenBack(committed)
            failpoints.reach("commit.before_commit")
            return committed

    try:
        committed = take_turn(engine, f"project/{order.project}", work)
    except _TakenBack as taken:
        return taken.committed
    failpoints.reach("commit.after_commit")
    return committed


def commit_within(
    connection: Connection,
    *,
    parts: Sequence[Part],
    why: Cause,
    replace_variants: bool = False,
    permit: Permit = permit_all,
    observe: Observe = observe_nothing,
) -> dict[str, Committed]:
    """Make changes in the caller's transaction, which was begun with `writing`: whole when that ends well.

    Shapes: as `commit_all`. Errors: as `commit`; the caller's transaction must not go on after one.
    """
    order = Order(why.project, tuple(parts), why, replace_variants, permit, observe)
    check_order(order)
    return answered_before(connection, order) or _commit(connection, order)


def try_within(
    connection: Connection,
    *,
    parts: Sequence[Part],
    why: Cause,
    replace_variants: bool = False,
    permit: Permit = permit_all,
    observe: Observe = observe_nothing,
) -> dict[str, Committed]:
    """What `commit_within` would do; the caller's transaction goes on as if nothing had been tried.

    Errors: as `commit`; the transaction may go on after one.
    """
    savepoint = connection.begin_nested()
    try:
        return commit_within(
            connection, parts=parts, why=why, replace_variants=replace_variants, permit=permit, observe=observe
        )
    finally:
        savepoint.rollback()


class _TakenBack(Exception):
    """Ends the transaction of a dry run; carries what it would have done."""

    def __init__(self, committed: dict[str, Committed]) -> None:
        self.committed = committed


def _commit(connection: Connection, order: Order) -> dict[str, Committed]:
    # What an earlier part does in a later one's environment must not look like somebody else's change.
    first, *others = order.parts
    later = [compared(connection, order, part) for part in others]
    committed = {part.environment: _commit_part(connection, order, part) for part in (first, *later)}
    if order.why.request_id:
        note_answer(connection, order, committed)
    return committed


def _commit_part(connection: Connection, order: Order, part: Part) -> Committed:
    if not part.environment:
        return _commit_project(connection, order, part)
    place = _find(connection, order, part)
    stored = None if place is None else place.environment
    before = _nothing_yet(connection, order, part) if stored is None else stored
    check_versions(connection, before.environment, expected=part.expected_versions)
    check_flag_versions(connection, order.project, expected=part.expected_flags)
    subjects = subjects_of(part.changes)
    near = load_neighbourhood(connection, before.environment, subjects=subjects, whole=_concerns_all(order, part))
    refuse_damaged(near, part.changes)
    key_lists = bring_keys(connection, before.environment, near.flag_set.segments, changes=part.changes)
    if order.observe is not observe_nothing:
        # Whoever looks on may want to evaluate.
        key_lists = load_key_lists(connection, before.environment, near.segment_documents)
    near = with_keys(near, key_lists)
    preview = preview_all(near.flag_set, part.changes)
    order.observe(Seen(before.revision, near.flag_set, preview))
    preview.raise_if_refused()
    after, events = preview.flag_set, preview.events
    if not events:
        return Committed(before.revision, (), Touched(before.revision), unchanged=True)
    order.permit(before.environment, events)
    standing = None if place is None else place.standing
    return _write(connection, order, decide(before, standing, near, after=after, events=events))


def _nothing_yet(connection: Connection, order: Order, part: Part) -> StoredEnvironment:
    # One that was deleted goes on counting where it ended.
    revision = last_revision(connection, project=order.project, environment=part.environment)
    return StoredEnvironment(Environment(order.project, part.environment), revision)


def _commit_project(connection: Connection, order: Order, part: Part) -> Committed:
    """Make the changes of a part that belong to no environment."""
    place = _find(connection, order, part)
    where = Environment(order.project, "")
    check_versions(connection, where, expected=part.expected_versions)
    changes = [change for change in part.changes if isinstance(change, CreateProject | UpdateProject | DeleteProject)]
    events = apply_to_project(None if place is None else place.project, changes)
    if not events:
        return Committed(0, (), Touched(0), unchanged=True)
    order.permit(where, events)
    for event in events:
        save_project_event(connection, event, now=order.why.now)
        if isinstance(event, ProjectDeleted):
            end_tokens(connection, Scope(event.key), order.why)
    saving.save_records(connection, order.why, records=[project_record(event) for event in events], damaged=())
    return Committed(0, events, Touched(0))


def _concerns_all(order: Order, part: Part) -> bool:
    # What is deleted goes unread, unless somebody wants to see what it did.
    if order.observe is not observe_nothing and any(isinstance(change, DeleteEnvironment) for change in part.changes):
        return True
    # Under another bucketing every flag is written out in another way, and must be sound there too.
    return any(isinstance(change, UpdateEnvironment) and change.bucketing is not None for change in part.changes)


def _find(connection: Connection, order: Order, part: Part) -> Place | None:
    place = find_place(connection, project=order.project, environment=part.environment)
    creates_project = any(isinstance(change, CreateProject) for change in part.changes)
    if place is not None and creates_project:
        raise Conflict(f"project {order.project!r} exists already")
    if place is None and not creates_project:
        raise NotFound(f"project {order.project!r} does not exist; create it first")
    stored = None if place is None else place.environment
    creates = any(isinstance(change, CreateEnvironment) for change in part.changes)
    flag_set = order.flag_set(part)
    if stored is not None and creates:
        raise Conflict(f"environment {flag_set!r} exists already")
    if stored is None and part.environment and not creates:
        raise NotFound(f"environment {flag_set!r} does not exist; create it first")
    check_stored_revision(flag_set, stored, part)
    return place


def _write(connection: Connection, order: Order, decision: Decision) -> Committed:
    problems = Problems()
    planned = plan_elsewhere(
        connection,
        decision.after.environment,
        shared=list(shared_changes(decision)),
        replace_variants=order.replace_variants,
        problems=problems,
    )
    for other in planned:
        order.observe(Seen(other.revision, other.before, Preview(other.after, other.events, (), {})))
    validate(decision, problems)
    problems.raise_if_any()
    warnings = [*check_locks(connection, order.why, decision.after.environment.key, decision.events)]
    stop_movers(connection, order.why, decision.after.environment.key, decision.events)
    for other in planned:
        if other.events:
            order.permit(other.environment, other.events)
            warnings += check_locks(connection, order.why, other.environment.key, other.events)
            stop_movers(connection, order.why, other.environment.key, other.events)
    elsewhere = [record for other in planned for record in other.records]
    count = count_change(
        decision.before, decision.near, decision.after, events=decision.events, written=decision.flag_texts
    )
    counts = [count, *(other.count for other in planned)]
    with together(connection) if only_writes(decision, counts) else nullcontext():
        _save(connection, order, decision, count)
        _save_key_lists(connection, decision)
        _check_sizes(connection, decision)
        for other in planned:
            note_counts(connection, other.count)
        saving.save_records(
            connection,
            order.why,
            records=[*records(decision), *elsewhere],
            damaged=decision.near.damaged,
            standing=decision.standing,
            totals=_totals(connection, decision, counts),
        )
    return Committed(
        decision.revision,
        decision.events,
        touched_of(decision.revision, [(event.kind, event.key) for event in decision.events]),
        elsewhere={record.environment: record.revision for record in elsewhere},
        unsent=unsent_flags(decision.after, decision.events),
        warnings=tuple(warnings),
    )


def _totals(connection: Connection, decision: Decision, counts: Sequence[SyncCount]) -> dict[str, int | None]:
    """The bytes of environments whose flags are saved. Errors: TooLarge when one of these flag sets no longer fits."""
    totals: dict[str, int | None] = {}
    for count in counts:
        totals[count.environment.key] = total = total_of(connection, count)
        # What is turned off takes less room, and must be possible in a set that has become too large.
        with suppress(TooLarge) if all(map(is_kill, decision.events)) else nullcontext():
            check_total(count, total)
    return totals


def _save(connection: Connection, order: Order, decision: Decision, count: SyncCount) -> None:
    now = order.why.now
    environment, near, events = decision.after.environment, decision.near, decision.events
    for event in events:
        save_project_event(connection, event, now=now)
        save_environment_event(connection, event, environment, now=now)
        if isinstance(event, EnvironmentDeleted):
            empty_environment(connection, environment, revision=decision.revision, now=now)
            end_tokens(connection, Scope(environment.project, environment.key), order.why)
    forget_counts(connection, count)
    standing = decision.standing or read_standing(connection, environment.project)
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
        flags={key: (decision.after.flags[key], text) for key, text in decision.flag_texts.items()},
        removed=[event.key for event in events if isinstance(event, FlagRemoved)],
        stored=near,
        count=count,
        version=standing.entry_sequence + 1,
        now=now,
    )
    saving.save_references(connection, environment, events=events, damaged=near.damaged)


def _save_key_lists(connection: Connection, decision: Decision) -> None:
    for event in decision.events:
        if isinstance(event, SegmentCreated | SegmentUpdated | SegmentRemoved):
            before, after = event.before, event.after
            environment = decision.after.environment
            save_key_list(connection, environment, before=before, after=after, revision=decision.revision)
            if after is not None and after.key_list is not None:
                check_key_bytes(connection, environment)


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
