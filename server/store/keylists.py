"""Read and write the keys of large segments, chunk by chunk."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, delete, func, insert, select

from server.core.changes import AddSegmentKeys, Change, PutSegment, RemoveSegmentKeys
from server.core.environments import Environment
from server.core.errors import TooLarge
from server.core.keylists import CHUNKS, EMPTY, Chunk, KeyList, list_of, place_of, places, unpack
from server.core.limits import KEY_LISTS_BYTES_MAX, LIST_ITEMS_MAX
from server.core.segments import Segment
from server.store import tables
from server.store.mapping import Document

_TABLE: Final = tables.segment_chunks
_COLUMNS: Final = _TABLE.c
_HEAD: Final = (_COLUMNS.place, _COLUMNS.key_count, _COLUMNS.byte_count, _COLUMNS.digest)
KEYS_PER_QUERY: Final = 500
CHUNKS_PER_QUERY: Final = 64
Place: TypeAlias = tuple[int, str]
"""A chunk, and a key in it."""

_EVERYTHING: Final = range(CHUNKS)


def head_of(document: Document | None) -> KeyList | None:
    """What a stored segment says of its keys when it is large; None when it is not."""
    head = None if document is None else document.get("keyList")
    if not isinstance(head, dict):
        return None
    count, digest = head.get("count"), head.get("digest")
    return KeyList(count, digest) if isinstance(count, int) and isinstance(digest, str) else None


def load_key_lists(
    connection: Connection,
    environment: Environment,
    documents: Mapping[str, Document | None],
    *,
    known: Mapping[str, KeyList] | None = None,
    since: int = 0,
) -> dict[str, KeyList]:
    """The keys of the large ones among some segments, by key.

    A list is there only when it is the one that its segment's document means: not when the document is from another
    moment or the rows are damaged. Of a list that is `known` as of revision `since`, only what changed is read.
    """
    found: dict[str, KeyList] = {}
    for key, document in documents.items():
        head = head_of(document)
        if head is not None:
            before = (known or {}).get(key)
            loaded = before if before == head else _load(connection, environment, key, before, since, head)
            if loaded is not None:
                found[key] = loaded
    return found


def load_key_list(
    connection: Connection, environment: Environment, key: str, *, chosen: Collection[int] = _EVERYTHING
) -> KeyList:
    """A segment's keys; only those of the chosen places are at hand, all others are counted."""
    chunks = {place: chunk for place, chunk in _heads(connection, environment, key).items() if place not in chosen}
    query = select(*_HEAD, _COLUMNS.packed).where(_of(environment, key))
    if len(chosen) <= KEYS_PER_QUERY:
        query = query.where(_COLUMNS.place.in_(sorted(chosen)))
    chunks.update(
        {place: Chunk(packed, *rest) for place, *rest, packed in connection.execute(query) if place in chosen}
    )
    return list_of(chunks)


def list_keys(
    connection: Connection, environment: Environment, key: str, *, after: Place | None, limit: int
) -> list[tuple[Place, str]]:
    """Some of a large segment's keys, in the order of their chunks, from the one behind `after` on."""
    found: list[tuple[Place, str]] = []
    place, text = (0, "") if after is None else after
    query = select(_COLUMNS.place, _COLUMNS.packed).where(_of(environment, key)).order_by(_COLUMNS.place)
    while len(found) < limit:
        rows = connection.execute(query.where(_COLUMNS.place >= place).limit(CHUNKS_PER_QUERY)).all()
        for at, packed in rows:
            found += [((at, each), each) for each in unpack(packed) if at > place or each.encode() > text.encode()]
        if len(rows) < CHUNKS_PER_QUERY:
            break
        place, text = rows[-1].place + 1, ""
    return found[:limit]


def find_keys(connection: Connection, environment: Environment, key: str, wanted: Iterable[str]) -> KeyList:
    """A large segment's keys, as far as it takes to look some of them up."""
    encoded = (text.encode("utf-8", "surrogatepass") for text in wanted)
    return load_key_list(connection, environment, key, chosen={place_of(each) for each in encoded})


def bring_keys(
    connection: Connection, environment: Environment, segments: Mapping[str, Segment], *, changes: Iterable[Change]
) -> dict[str, KeyList]:
    """The stored keys of large segments, as far as changes need them at hand."""
    needed: dict[str, _Needed] = {}
    for change in changes:
        match change:
            case AddSegmentKeys(key, keys):
                needed.setdefault(key, _Needed(set())).places.update(places(keys))
            case RemoveSegmentKeys(key, keys):
                each = needed.setdefault(key, _Needed(set()))
                each.places.update(places(keys))
                each.removed += keys.count
            case PutSegment(segment):
                needed.setdefault(segment.key, _Needed(set()))
    return {
        key: load_key_list(connection, environment, key, chosen=each.chosen(stored))
        for key, each in needed.items()
        if key in segments and (stored := segments[key].key_list) is not None
    }


def save_key_list(
    connection: Connection,
    environment: Environment,
    *,
    before: Segment | None,
    after: Segment | None,
    revision: int,
) -> None:
    """Write what differs between two large lists; of a segment that is no longer large nothing stays."""
    segment = after or before
    assert segment is not None  # An event has a segment before or after it.
    stored = None if before is None else before.key_list
    wanted = None if after is None else after.key_list
    if wanted is None:
        if stored is not None:
            connection.execute(delete(_TABLE).where(_of(environment, segment.key)))
        return
    if wanted.chunks is None or wanted == stored:
        return
    known = None if stored is None else stored.chunks
    old = _heads(connection, environment, segment.key) if known is None else dict(enumerate(known))
    changed = [place for place, chunk in enumerate(wanted.chunks) if chunk.digest != old.get(place, EMPTY).digest]
    gone = [place for place in changed if place in old]
    for start in range(0, len(gone), KEYS_PER_QUERY):
        part = gone[start : start + KEYS_PER_QUERY]
        connection.execute(delete(_TABLE).where(_of(environment, segment.key), _COLUMNS.place.in_(part)))
    rows = [_row(environment, segment.key, place, wanted.chunks[place], revision) for place in changed]
    if rows:
        connection.execute(insert(_TABLE), rows)


def check_key_bytes(connection: Connection, environment: Environment, *, bytes_max: int = KEY_LISTS_BYTES_MAX) -> None:
    """Errors: TooLarge when an environment's large segments take too much together."""
    here = (_COLUMNS.project == environment.project) & (_COLUMNS.environment == environment.key)
    byte_count = connection.execute(select(func.sum(_COLUMNS.byte_count)).where(here)).scalar() or 0
    if byte_count > bytes_max:
        raise TooLarge(
            f"the large segments of {environment.flag_set!r} would take {byte_count} bytes, at most "
            f"{bytes_max} are allowed; remove keys, or use another environment"
        )


@dataclass(slots=True)
class _Needed:
    places: set[int]
    removed: int = 0

    def chosen(self, stored: KeyList) -> Collection[int]:
        # A list that becomes short goes back into its definition, for which every key is needed.
        return _EVERYTHING if stored.count - self.removed <= LIST_ITEMS_MAX and self.removed else self.places


def _load(
    connection: Connection, environment: Environment, key: str, before: KeyList | None, since: int, head: KeyList
) -> KeyList | None:
    if before is not None and before.chunks is not None:
        changed = _read(connection, environment, key, since=since)
        fresh = list_of({**dict(enumerate(before.chunks)), **changed})
        if fresh == head and _is_sound(changed.values()):
            return fresh
    # What was written in one revision with what was taken away cannot be followed in steps.
    chunks = _read(connection, environment, key, since=0)
    fresh = list_of(chunks)
    return fresh if fresh == head and _is_sound(chunks.values()) else None


def _read(connection: Connection, environment: Environment, key: str, *, since: int) -> dict[int, Chunk]:
    query = select(*_HEAD, _COLUMNS.packed).where(_of(environment, key), _COLUMNS.revision > since)
    return {place: Chunk(packed, *rest) for place, *rest, packed in connection.execute(query)}


def _heads(connection: Connection, environment: Environment, key: str) -> dict[int, Chunk]:
    rows = connection.execute(select(*_HEAD).where(_of(environment, key)))
    return {place: Chunk(None, *rest) for place, *rest in rows}


def _is_sound(chunks: Iterable[Chunk]) -> bool:
    return all(chunk.packed is not None and hashlib.sha256(chunk.packed).digest() == chunk.digest for chunk in chunks)


def _row(environment: Environment, key: str, place: int, chunk: Chunk, revision: int) -> dict[str, Any]:
    return {
        "project": environment.project,
        "environment": environment.key,
        "segment": key,
        "place": place,
        "key_count": chunk.count,
        "byte_count": chunk.byte_count,
        "digest": chunk.digest,
        "revision": revision,
        "packed": chunk.packed,
    }


def _of(environment: Environment, key: str) -> Any:
    return (
        (_COLUMNS.project == environment.project)
        & (_COLUMNS.environment == environment.key)
        & (_COLUMNS.segment == key)
    )
