"""Count what a flag set takes to send to in-process clients, and refuse a commit that makes it too much.

Each flag's bytes stand beside its configuration and their sum beside its environment, so that a commit counts again
only what it changed, and costs the same with a hundred flags and with ten thousand. NULL means not counted yet: after a
migration, and wherever sync is off.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from server.core.definitions.flagsets import affected, needed_large
from server.core.environments import Environment
from server.core.evaluation.exporting import check_sync_bytes, flag_bytes
from server.core.events import EnvironmentDeleted, EnvironmentUpdated, Event, FlagRemoved
from server.core.flagsets import FlagSet
from server.core.references import Target
from server.store import tables
from server.store.environments import StoredEnvironment
from server.store.neighbourhood import Neighbourhood, load_neighbourhood
from server.store.statements import update_rows

_COLUMNS: Final = tables.flag_configs.c


@dataclass(frozen=True, slots=True)
class SyncCount:
    """What a commit makes of the bytes of one environment."""

    environment: Environment
    """As it is afterwards."""

    total: int | None
    """The sum afterwards; None when it is not known."""

    byte_counts: Mapping[str, int] = field(default_factory=dict)
    """The flags that take another number of bytes than before, or were not counted before."""

    is_concerned: bool = True
    """Whether the sum may be another one, and has to be within its bound."""

    begins_anew: bool = False
    """Whether nothing that was counted is of use any more."""

    def bytes_of(self, key: str, stored: Neighbourhood) -> int | None:
        """What a flag is to be written with; None when it is not known."""
        if self.begins_anew or not self.environment.sync:
            return None
        return self.byte_counts.get(key, stored.sync_bytes.get(key))


def count_change(
    stored: StoredEnvironment, near: Neighbourhood, after: FlagSet, *, events: Sequence[Event], written: Collection[str]
) -> SyncCount:
    """What events do to the environment that they happened in; `written` are the flags whose text is a new one."""
    environment = after.environment
    if any(isinstance(event, EnvironmentDeleted) for event in events):
        return SyncCount(environment, None, is_concerned=False)
    if any(isinstance(event, EnvironmentUpdated) and _counts_anew(event) for event in events):
        return SyncCount(environment, None, is_concerned=environment.sync, begins_anew=True)
    touched: list[Target] = [(event.kind, event.key) for event in events if event.kind in ("flag", "segment")]
    if not environment.sync or not touched:
        return SyncCount(environment, stored.sync_total, is_concerned=False)
    removed = [event.key for event in events if isinstance(event, FlagRemoved)]
    return _count(stored, near, after, touched=touched, removed=removed, written=written)


def count_shared(
    stored: StoredEnvironment, near: Neighbourhood, after: FlagSet, *, changed: Collection[str]
) -> SyncCount:
    """What other shared parts of these flags do to an environment that configures them too."""
    if not stored.environment.sync or not changed:
        return SyncCount(stored.environment, stored.sync_total, is_concerned=False)
    touched: list[Target] = [("flag", key) for key in changed]
    return _count(stored, near, after, touched=touched, removed=(), written=changed)


def forget_counts(connection: Connection, count: SyncCount) -> None:
    """Take away what was counted before, where it is of no use any more; the flags themselves are saved afterwards."""
    if count.begins_anew:
        connection.execute(update(tables.flag_configs).where(_here(count.environment)).values(sync_bytes=None))


def note_counts(connection: Connection, count: SyncCount, *, noted: Collection[str] = ()) -> None:
    """Write the bytes of flags beside their configurations, but of those that are `noted` already."""
    here = {"project": count.environment.project, "environment": count.environment.key}
    byte_counts = {key: byte_count for key, byte_count in count.byte_counts.items() if key not in noted}
    rows = [{**here, "key": key, "sync_bytes": byte_count} for key, byte_count in byte_counts.items()]
    update_rows(connection, tables.flag_configs, rows)


def total_of(connection: Connection, count: SyncCount) -> int | None:
    """The sum to be written beside an environment whose flags are saved; counts them all when it is not known."""
    if not count.is_concerned or count.total is not None:
        return count.total
    return _count_all(connection, count.environment)


def check_total(count: SyncCount, total: int | None) -> None:
    """Errors: TooLarge when a flag set no longer fits."""
    if count.is_concerned and total is not None:
        check_sync_bytes(count.environment, total)


def unsent_flags(after: FlagSet, events: Iterable[Event]) -> dict[str, frozenset[str]]:
    """The flags concerned that in-process clients are not sent, each with the large segments that it needs."""
    touched: list[Target] = [(event.kind, event.key) for event in events if event.kind in ("flag", "segment")]
    if not after.environment.sync or not any(segment.key_list for segment in after.segments.values()):
        return {}
    keys = sorted(key for kind, key in affected(after, touched) if kind == "flag" and key in after.flags)
    needed = {key: needed_large(after.flags[key], after) for key in keys}
    return {key: large for key, large in needed.items() if large}


def _counts_anew(event: EnvironmentUpdated) -> bool:
    before, after = event.before, event.after
    return before.sync != after.sync or (
        after.sync and (before.bucketing, before.metadata) != (after.bucketing, after.metadata)
    )


def _count(
    stored: StoredEnvironment,
    near: Neighbourhood,
    after: FlagSet,
    *,
    touched: Collection[Target],
    removed: Collection[str],
    written: Collection[str],
) -> SyncCount:
    concerned = [key for kind, key in affected(after, touched) if kind == "flag" and key in after.flags]
    damaged = {key for kind, key in near.damaged if kind == "flag" and key not in written}
    counted = _counted(after, concerned, damaged=damaged)
    # What is not known stays so.
    total = stored.sync_total
    if total is not None:
        total += sum(counted.values()) - sum(near.sync_bytes.get(key, 0) for key in {*counted, *removed})
    fresh = {key: byte_count for key, byte_count in counted.items() if near.sync_bytes.get(key) != byte_count}
    return SyncCount(after.environment, total, fresh)


def _counted(flag_set: FlagSet, keys: Iterable[str], *, damaged: Collection[str]) -> dict[str, int]:
    return {key: 0 if key in damaged else flag_bytes(flag_set, key) for key in keys if key in flag_set.flags}


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
    note_counts(connection, SyncCount(environment, None, {key: counted.get(key, 0) for key in keys}))


def _here(environment: Environment) -> Any:
    return (_COLUMNS.project == environment.project) & (_COLUMNS.environment == environment.key)
