"""Count what a flag set takes to send to in-process clients, and refuse a commit that makes it too much.

Each flag's bytes stand beside its configuration and their sum beside its environment, so that a commit counts again
only what it changed, and costs the same with a hundred flags and with ten thousand. NULL means not counted yet: after a
migration, and wherever sync is off.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from server.core.definitions.flagsets import affected, needed_large
from server.core.environments import Environment
from server.core.evaluation.exporting import check_sync_bytes, flag_bytes
from server.core.events import EnvironmentUpdated, FlagRemoved
from server.core.flagsets import FlagSet
from server.core.references import Target
from server.store import tables
from server.store.decision import Decision
from server.store.environments import read_environment
from server.store.flagsets import in_parts
from server.store.neighbourhood import ONE_BY_ONE_MAX, load_neighbourhood
from server.store.saving import Record
from server.store.statements import Statement, update_rows

_COLUMNS: Final = tables.flag_configs.c
_ENVIRONMENTS: Final = tables.environments.c
_HERE: Final = (_ENVIRONMENTS.project == bindparam("own_project")) & (_ENVIRONMENTS.key == bindparam("own_key"))
_TOTAL: Final = Statement(select(_ENVIRONMENTS.sync_total).where(_HERE))
_ADD: Final = Statement(
    update(tables.environments)
    .where(_HERE)
    .values(sync_total=_ENVIRONMENTS.sync_total + bindparam("more", type_=_ENVIRONMENTS.sync_total.type))
)
_ONE: Final = Statement(
    select(_COLUMNS.sync_bytes).where(
        _COLUMNS.project == bindparam("own_project"),
        _COLUMNS.environment == bindparam("own_environment"),
        _COLUMNS.key == bindparam("own_key"),
    )
)


def removed_sync_bytes(connection: Connection, decision: Decision) -> int:
    """What the flags take that a commit is about to remove."""
    keys = [event.key for event in decision.events if isinstance(event, FlagRemoved)]
    return _bytes_of(connection, decision.after.environment, keys=keys)


def check_sync_sizes(
    connection: Connection, decision: Decision, *, removed_bytes: int, elsewhere: Iterable[Record]
) -> None:
    """Count again what a saved commit changed, here and in environments that share its flags.

    Errors: TooLarge when one of these flag sets no longer fits.
    """
    _count_here(connection, decision, removed_bytes=removed_bytes)
    flags: dict[str, list[str]] = {}
    for record in elsewhere:
        flags.setdefault(record.environment, []).append(record.key)
    for key, keys in flags.items():
        there = read_environment(connection, project=decision.after.environment.project, environment=key).environment
        if there.sync:
            _note(connection, there, byte_counts=dict.fromkeys(keys))
            _set_total(connection, there, None)
            _check(connection, there)


def unsent_flags(decision: Decision) -> dict[str, frozenset[str]]:
    """The flags concerned that in-process clients are not sent, each with the large segments that it needs."""
    after = decision.after
    touched: list[Target] = [(event.kind, event.key) for event in decision.events if event.kind in ("flag", "segment")]
    if not after.environment.sync or not any(segment.key_list for segment in after.segments.values()):
        return {}
    keys = sorted(key for kind, key in affected(after, touched) if kind == "flag" and key in after.flags)
    needed = {key: needed_large(after.flags[key], after) for key in keys}
    return {key: large for key, large in needed.items() if large}


def _count_here(connection: Connection, decision: Decision, *, removed_bytes: int) -> None:
    environment = decision.after.environment
    touched: list[Target] = [(event.kind, event.key) for event in decision.events if event.kind in ("flag", "segment")]
    is_renewed = any(isinstance(event, EnvironmentUpdated) and _counts_anew(event) for event in decision.events)
    if is_renewed:
        _forget_all(connection, environment)
    if not environment.sync or not (touched or is_renewed):
        return
    if not is_renewed:
        concerned = [key for kind, key in affected(decision.after, touched) if kind == "flag"]
        damaged = {key for kind, key in decision.near.damaged if kind == "flag"} - decision.flag_texts.keys()
        counted = _counted(decision.after, concerned, damaged=damaged)
        before = _bytes_of(connection, environment, keys=counted)
        _note(connection, environment, byte_counts=counted)
        _add(connection, environment, sum(count or 0 for count in counted.values()) - before - removed_bytes)
    _check(connection, environment)


def _counts_anew(event: EnvironmentUpdated) -> bool:
    before, after = event.before, event.after
    return before.sync != after.sync or (
        after.sync and (before.bucketing, before.metadata) != (after.bucketing, after.metadata)
    )


def _counted(flag_set: FlagSet, keys: Iterable[str], *, damaged: Collection[str]) -> dict[str, int | None]:
    return {key: 0 if key in damaged else flag_bytes(flag_set, key) for key in keys if key in flag_set.flags}


def _bytes_of(connection: Connection, environment: Environment, *, keys: Collection[str]) -> int:
    """What these flags were counted to take; those that are not counted yet take nothing."""
    if len(keys) <= ONE_BY_ONE_MAX:
        here = {"own_project": environment.project, "own_environment": environment.key}
        return sum((row or (None,))[0] or 0 for row in (_ONE.first(connection, **here, own_key=key) for key in keys))
    query = select(func.sum(_COLUMNS.sync_bytes)).where(_here(environment))
    return sum(int(connection.execute(part).scalar() or 0) for part in in_parts(query, _COLUMNS.key, keys))


def _add(connection: Connection, environment: Environment, more: int) -> None:
    # What is not known stays so.
    _ADD.run(connection, [{"own_project": environment.project, "own_key": environment.key, "more": more}])


def _set_total(connection: Connection, environment: Environment, total: int | None) -> None:
    row = {"project": environment.project, "key": environment.key, "sync_total": total}
    update_rows(connection, tables.environments, [row])


def _check(connection: Connection, environment: Environment) -> None:
    row = _TOTAL.first(connection, own_project=environment.project, own_key=environment.key)
    total = None if row is None else row[0]
    if total is None:
        total = _count_all(connection, environment)
        _set_total(connection, environment, total)
    check_sync_bytes(environment, total)


def _count_all(connection: Connection, environment: Environment) -> int:
    here = _here(environment)
    total = select(func.count(), func.count(_COLUMNS.sync_bytes), func.sum(_COLUMNS.sync_bytes)).where(here)
    row_count, counted_count, byte_count = connection.execute(total).one()
    if counted_count < row_count:
        _count_missing(connection, environment)
        byte_count = connection.execute(total).one()[2]
    return int(byte_count or 0)


def _count_missing(connection: Connection, environment: Environment) -> None:
    missing = select(_COLUMNS.key).where(_here(environment), _COLUMNS.sync_bytes.is_(None))
    keys = [key for (key,) in connection.execute(missing)]
    near = load_neighbourhood(connection, environment, subjects={("flag", key): frozenset() for key in keys})
    damaged = {key for kind, key in near.damaged if kind == "flag"}
    # A row that cannot even be found by its key is nobody's flag; counted as nothing, it is not looked for again.
    counted = _counted(near.flag_set, keys, damaged=damaged)
    _note(connection, environment, byte_counts={key: counted.get(key, 0) for key in keys})


def _here(environment: Environment) -> Any:
    return (_COLUMNS.project == environment.project) & (_COLUMNS.environment == environment.key)


def _forget_all(connection: Connection, environment: Environment) -> None:
    connection.execute(update(tables.flag_configs).where(_here(environment)).values(sync_bytes=None))
    _set_total(connection, environment, None)


def _note(connection: Connection, environment: Environment, *, byte_counts: Mapping[str, int | None]) -> None:
    here = {"project": environment.project, "environment": environment.key}
    rows = [{**here, "key": key, "sync_bytes": count} for key, count in byte_counts.items()]
    update_rows(connection, tables.flag_configs, rows)
