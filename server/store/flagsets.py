"""Read one environment's flags and segments, all of them or those that changed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, select

from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.core.keylists import KeyList
from server.core.segments import Segment
from server.store import tables
from server.store.columns import stored_text
from server.store.environments import read_environment
from server.store.garbage import collector_paused
from server.store.keylists import load_key_lists
from server.store.mapping import Document, merged, parse, parse_flag, parse_segment

KEYS_PER_QUERY: Final = 500
ROWS_AT_ONCE: Final = 500
"""Of a streamed set."""


@dataclass(frozen=True, slots=True)
class StoredFlagSet:
    """An environment's documents as they are stored, unchecked; None stands for one that is no JSON object."""

    environment: Environment
    revision: int
    flags: Mapping[str, Document | None]
    """By key; the flag's own part and the environment's part as one document."""

    segments: Mapping[str, Document | None]
    key_lists: Mapping[str, KeyList] = field(default_factory=dict)
    """Keys of large segments, where they were asked for and are those that the segment's document means."""


@dataclass(frozen=True, slots=True)
class StreamedFlagSet:
    """An environment whose flags are read one after another, so that they are never in memory together."""

    environment: Environment
    revision: int
    segments: Mapping[str, Document | None]
    key_lists: Mapping[str, KeyList]
    """Keys of the large segments."""

    flags: Iterator[tuple[str, Document | None]]
    """By key, in order; readable once, while the transaction that it came from is open."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What differs from an earlier revision."""

    revision: int
    flags: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()
    environment: bool = False


def load_documents(
    connection: Connection,
    *,
    project: str,
    environment: str,
    flags: Collection[str] | None = None,
    segments: Collection[str] | None = None,
) -> StoredFlagSet:
    """Read an environment's documents; `flags` and `segments` choose some of them, None means all.

    A chosen key that is not there is left out. Errors: NotFound when there is no such environment.
    """
    stored = read_environment(connection, project=project, environment=environment)
    found, found_segments = load_parts(connection, stored.environment, flags=flags, segments=segments)
    return StoredFlagSet(stored.environment, stored.revision, found, found_segments)


def load_parts(
    connection: Connection,
    where: Environment,
    *,
    flags: Collection[str] | None = None,
    segments: Collection[str] | None = None,
) -> tuple[dict[str, Document | None], dict[str, Document | None]]:
    """Flags and segments of an environment that was read in the same transaction; as `load_documents` otherwise."""
    with collector_paused(None if flags is None else len(flags)):
        return (
            dict(_flags(connection, where.project, where.key, keys=flags)),
            dict(_segments(connection, where.project, where.key, keys=segments)),
        )


def stream_documents(connection: Connection, *, project: str, environment: str) -> StreamedFlagSet:
    """Read an environment's documents as `load_documents` does, but its flags only as they are asked for."""
    stored = read_environment(connection, project=project, environment=environment)
    segments = dict(_segments(connection, project, environment, keys=None))
    return StreamedFlagSet(
        stored.environment,
        stored.revision,
        segments,
        load_key_lists(connection, stored.environment, segments),
        _flags(connection, project, environment, keys=None, at_once=ROWS_AT_ONCE),
    )


def read_flag_set(connection: Connection, *, project: str, environment: str) -> FlagSet:
    """Read an environment as values. Errors: InvalidDefinition naming every document that is damaged; NotFound."""
    with collector_paused():
        stored = load_documents(connection, project=project, environment=environment)
        return _read(replace(stored, key_lists=load_key_lists(connection, stored.environment, stored.segments)))


def touched_since(connection: Connection, *, project: str, environment: str, revision: int) -> Touched:
    """What commits after a revision touched. Errors: NotFound when there is no such environment."""
    stored = read_environment(connection, project=project, environment=environment)
    columns = tables.revisions.c
    # Not distinct: for that SQLite would read the environment's whole history, in the order of another index.
    query = select(columns.kind, columns.key).where(
        columns.project == project, columns.environment == environment, columns.revision > revision
    )
    return touched_of(stored.revision, {(kind, _key(key)) for kind, key in connection.execute(query)})


def touched_of(revision: int, subjects: Collection[tuple[str, str]]) -> Touched:
    """Sort (kind, key) pairs."""
    return Touched(
        revision,
        frozenset(key for kind, key in subjects if kind == "flag"),
        frozenset(key for kind, key in subjects if kind == "segment"),
        any(kind == "environment" for kind, _ in subjects),
    )


def in_parts(query: Select[Any], column: Any, keys: Collection[str] | None) -> Iterator[Select[Any]]:
    """The query for some keys, cut so that no database's limit of parameters is met; None means no choice."""
    if keys is None:
        yield query
        return
    ordered: Sequence[str] = sorted(keys)
    for start in range(0, len(ordered), KEYS_PER_QUERY):
        yield query.where(column.in_(ordered[start : start + KEYS_PER_QUERY]))


def raw(column: Any) -> Any:
    """A document's column as it is stored: text that is not UTF-8 must show as damaged, not be mended by the driver."""
    return stored_text(column)


def _read(stored: StoredFlagSet) -> FlagSet:
    problems = Problems()
    flags: dict[str, FlagDefinition] = {}
    segments: dict[str, Segment] = {}
    for key, document in stored.flags.items():
        definition = parse_flag(key, document, problems=problems)
        if definition is not None:
            flags[key] = definition
    for key, document in stored.segments.items():
        segment = parse_segment(key, document, problems=problems)
        if segment is not None:
            segments[key] = at_hand(segment, stored.key_lists)
    problems.raise_if_any()
    return FlagSet(stored.environment, flags, segments)


def at_hand(segment: Segment, key_lists: Mapping[str, KeyList]) -> Segment:
    """A large segment with its keys, where they are among these."""
    keys = key_lists.get(segment.key)
    return segment if keys is None or keys != segment.key_list else replace(segment, key_list=keys)


def _flags(
    connection: Connection,
    project: str,
    environment: str,
    *,
    keys: Collection[str] | None,
    at_once: int | None = None,
) -> Iterator[tuple[str, Document | None]]:
    flag, config = tables.flags, tables.flag_configs
    query = (
        select(config.c.key, raw(flag.c.document), raw(config.c.document))
        .join_from(config, flag, (flag.c.project == config.c.project) & (flag.c.key == config.c.key))
        .where(config.c.project == project, config.c.environment == environment)
        .order_by(config.c.key)
    )
    if at_once is not None:
        query = query.execution_options(yield_per=at_once)
    for part in in_parts(query, config.c.key, keys):
        for key, flag_raw, config_raw in connection.execute(part):
            yield _key(key), merged(parse(flag_raw), parse(config_raw))


def _segments(
    connection: Connection, project: str, environment: str, *, keys: Collection[str] | None
) -> Iterator[tuple[str, Document | None]]:
    table: Table = tables.segments
    query = (
        select(table.c.key, raw(table.c.document))
        .where(table.c.project == project, table.c.environment == environment)
        .order_by(table.c.key)
    )
    for part in in_parts(query, table.c.key, keys):
        for key, document in connection.execute(part):
            yield _key(key), parse(document)


def _key(stored: str | bytes) -> str:
    """A row's key. One of bytes is nobody's: written out, it can be seen and takes no other flag's place."""
    return stored if isinstance(stored, str) else repr(stored)
