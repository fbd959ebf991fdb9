"""Count what a flag set takes to send to in-process clients, and refuse a commit that makes it too much.

Each flag's bytes stand beside its configuration, so that a commit counts again only what it changed and adds up an
index. NULL means not counted yet: after a migration, and wherever sync is off.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from server.core.definitions.flagsets import affected, needed_large
from server.core.environments import Environment
from server.core.evaluation.exporting import check_sync_bytes, flag_bytes
from server.core.events import EnvironmentUpdated
from server.core.flagsets import FlagSet
from server.core.references import Target
from server.store import tables
from server.store.decision import Decision
from server.store.environments import read_environment
from server.store.neighbourhood import load_neighbourhood
from server.store.saving import Record

_COLUMNS: Final = tables.flag_configs.c


def check_sync_sizes(connection: Connection, decision: Decision, *, elsewhere: Iterable[Record]) -> None:
    """Count again what a saved commit changed, here and in environments that share its flags.

    Errors: TooLarge when one of these flag sets no longer fits.
    """
    _count_here(connection, decision)
    flags: dict[str, list[str]] = {}
    for record in elsewhere:
        flags.setdefault(record.environment, []).append(record.key)
    for key, keys in flags.items():
        there = read_environment(connection, project=decision.after.environment.project, environment=key).environment
        if there.sync:
            _note(connection, there, byte_counts=dict.fromkeys(keys))
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


def _count_here(connection: Connection, decision: Decision) -> None:
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
        _note(connection, environment, byte_counts=_counted(decision.after, concerned, damaged=damaged))
    _check(connection, environment)


def _counts_anew(event: EnvironmentUpdated) -> bool:
    before, after = event.before, event.after
    return before.sync != after.sync or (
        after.sync and (before.bucketing, before.metadata) != (after.bucketing, after.metadata)
    )


def _counted(flag_set: FlagSet, keys: Iterable[str], *, damaged: Collection[str]) -> dict[str, int | None]:
    return {key: 0 if key in damaged else flag_bytes(flag_set, key) for key in keys if key in flag_set.flags}


def _check(connection: Connection, environment: Environment) -> None:
    here = _here(environment)
    total = select(func.count(), func.count(_COLUMNS.sync_bytes), func.sum(_COLUMNS.sync_bytes)).where(here)
    row_count, counted_count, byte_count = connection.execute(total).one()
    if counted_count < row_count:
        _count_missing(connection, environment)
        byte_count = connection.execute(total).one()[2]
    check_sync_bytes(environment, byte_count or 0)


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


def _note(connection: Connection, environment: Environment, *, byte_counts: Mapping[str, int | None]) -> None:
    if byte_counts:
        statement = update(tables.flag_configs).where(_here(environment), _COLUMNS.key == bindparam("own_key"))
        rows = [{"own_key": key, "sync_bytes": count} for key, count in byte_counts.items()]
        connection.execute(statement.values(sync_bytes=bindparam("sync_bytes")), rows)
