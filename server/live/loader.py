"""Turn stored documents into snapshots: a whole flag set, or only what commits have touched since."""

import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import Connection

from server.core import references
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.evaluation.compiler import quarantine
from server.core.evaluation.snapshot import CompiledFlag, Snapshot
from server.core.evaluation.snapshots import compile_one
from server.core.flags import FlagDefinition
from server.core.json import Json
from server.core.keylists import KeyList
from server.core.segments import Segment
from server.live.dependents import affected_by, carry_over, index_of
from server.store.environments import read_environment
from server.store.flagsets import StoredFlagSet, at_hand, load_parts, stream_documents, touched_since
from server.store.garbage import collector_paused
from server.store.keylists import load_key_lists
from server.store.mapping import Document, is_text, parse_flag, parse_segment, read_turned_off

_KEY_LISTS: Final = "live.key_lists"
"""Where a snapshot keeps the keys of large segments for the next one."""

Documents: TypeAlias = Mapping[str, Document | None]
"""By key; None is one that is damaged."""

_ABSENT: Final = object()
"""Stands for a document that was asked for and does not exist."""


def load_snapshot(connection: Connection, *, project: str, environment: str) -> Snapshot:
    """Read and compile a whole flag set. Errors: NotFound, StoreUnavailable, StoreCorrupt.

    Flags are compiled as they are read, and their definitions dropped; those with prerequisites are read again at the
    end, together with what they name.
    """
    stored = stream_documents(connection, project=project, environment=environment)
    segments = _read_segments(stored.segments, stored.key_lists)
    compiled: dict[str, CompiledFlag] = {}
    waiting: list[str] = []
    with collector_paused():
        for key, document in stored.flags:
            definition = _read_flag(key, document)
            if isinstance(definition, str):
                compiled[key] = quarantine(key, definition)
            elif definition.config.prerequisites:
                waiting.append(key)
            else:
                compiled[key] = compile_one(definition, flags={}, segments=segments, environment=stored.environment)
        known = Known(stored.revision, stored.key_lists)
        compiled.update(_compile(load_with_references(connection, stored.environment, waiting, known), waiting))
        snapshot = Snapshot(environment=stored.environment, revision=stored.revision, flags=compiled)
        snapshot.wire[_KEY_LISTS] = stored.key_lists
        # Made now, so that the first commit is seen as soon as later ones.
        index_of(snapshot)
        # What was loaded lives long. Set aside, it is not walked when the collector goes on, nor ever after; nothing
        # in it needs the collector to be freed.
        gc.freeze()
    return snapshot


def refresh_snapshot(connection: Connection, snapshot: Snapshot) -> Snapshot:
    """The snapshot at the database's revision; recompiles what was touched and what refers to it.

    Errors: NotFound when the environment is gone, StoreUnavailable, StoreCorrupt.
    """
    project, environment = snapshot.environment.project, snapshot.environment.key
    touched = touched_since(connection, project=project, environment=environment, revision=snapshot.revision)
    if touched.revision == snapshot.revision:
        return snapshot
    if touched.environment or touched.revision < snapshot.revision:
        # Another bucketing or other metadata concerns every flag; a lower revision is a restored database.
        return load_snapshot(connection, project=project, environment=environment)
    affected = _affected(snapshot, touched.flags, touched.segments)
    known = Known(snapshot.revision, snapshot.wire.get(_KEY_LISTS, {}))
    stored = load_with_references(connection, snapshot.environment, affected, known)
    compiled = _compile(stored, affected)
    flags = dict(snapshot.flags)
    for key in affected - compiled.keys():
        flags.pop(key, None)
    flags.update(compiled)
    refreshed = Snapshot(environment=stored.environment, revision=stored.revision, flags=flags)
    carry_over(snapshot, refreshed, keys=affected)
    kept = {key: keys for key, keys in known.key_lists.items() if key not in touched.segments}
    refreshed.wire[_KEY_LISTS] = {**kept, **stored.key_lists}
    return refreshed


def compile_documents(stored: StoredFlagSet) -> Snapshot:
    """Compile every flag of a stored set; what cannot be used is quarantined."""
    with collector_paused(len(stored.flags)):
        compiled = _compile(stored, stored.flags.keys())
    return Snapshot(environment=stored.environment, revision=stored.revision, flags=compiled)


@dataclass(frozen=True, slots=True)
class Known:
    """Keys of large segments as they were at a revision; of those only what changed since is read again."""

    revision: int
    key_lists: Mapping[str, KeyList]


_NOTHING_KNOWN: Final = Known(0, {})


Load: TypeAlias = Callable[[Collection[str], Collection[str]], tuple[Documents, Documents]]
"""(keys of flags, keys of segments) -> the documents of those that exist."""


def load_with_references(
    connection: Connection, where: Environment, keys: Collection[str], known: Known = _NOTHING_KNOWN
) -> StoredFlagSet:
    """The documents of some flags and of all that they refer to, directly or not; unknown keys are left out."""
    stored = read_environment(connection, project=where.project, environment=where.key)

    def load(flags: Collection[str], segments: Collection[str]) -> tuple[Documents, Documents]:
        return load_parts(connection, stored.environment, flags=flags, segments=segments)

    flags, segments = follow_references(stored.environment, keys, load)
    key_lists = load_key_lists(connection, stored.environment, segments, known=known.key_lists, since=known.revision)
    return StoredFlagSet(stored.environment, stored.revision, flags, segments, key_lists)


def follow_references(where: Environment, keys: Collection[str], load: Load) -> tuple[Documents, Documents]:
    """Some flags and all that they refer to, from wherever their documents are; of now, or of an earlier revision."""
    flags: dict[str, Json] = {}
    segments: dict[str, Json] = {}
    wanted = {("flag", key) for key in keys}
    while wanted:
        asked_flags = [key for kind, key in wanted if kind == "flag"]
        asked_segments = [key for kind, key in wanted if kind == "segment"]
        part = load(asked_flags, asked_segments)
        # What does not exist is remembered too, so that it is asked for once.
        flags.update({key: part[0].get(key, _ABSENT) for key in asked_flags})
        segments.update({key: part[1].get(key, _ABSENT) for key in asked_segments})
        found = _read(StoredFlagSet(where, 0, *part))
        mentioned = {target for flag in found.flags.values() for target in references.of_flag(flag)}
        mentioned.update(target for segment in found.segments.values() for target in references.of_segment(segment))
        # What no row can be called is not there, and cannot even be asked for.
        wanted = {
            (kind, key)
            for kind, key in mentioned
            if key not in (flags if kind == "flag" else segments) and is_text(key)
        }
    return (
        {key: document for key, document in flags.items() if document is not _ABSENT},
        {key: document for key, document in segments.items() if document is not _ABSENT},
    )


def _affected(snapshot: Snapshot, flags: Collection[str], segments: Collection[str]) -> frozenset[str]:
    """Keys of the touched flags, of those that were compiled from something touched, and of quarantined ones."""
    touched = [*(("flag", key) for key in flags), *(("segment", key) for key in segments)]
    return affected_by(snapshot, touched).union(flags)


@dataclass(frozen=True, slots=True)
class _Readable:
    """The documents of a set that could be read, and why the other flags could not."""

    flags: Mapping[str, FlagDefinition]
    segments: Mapping[str, Segment]
    broken: Mapping[str, str]


def _compile(stored: StoredFlagSet, keys: Collection[str]) -> dict[str, CompiledFlag]:
    read = _read(stored)
    compiled = {
        key: compile_one(read.flags[key], flags=read.flags, segments=read.segments, environment=stored.environment)
        for key in keys
        if key in read.flags
    }
    compiled.update({key: quarantine(key, why) for key, why in read.broken.items() if key in keys})
    return compiled


def _read(stored: StoredFlagSet) -> _Readable:
    flags: dict[str, FlagDefinition] = {}
    broken: dict[str, str] = {}
    for key, document in stored.flags.items():
        definition = _read_flag(key, document)
        if isinstance(definition, str):
            broken[key] = definition
        else:
            flags[key] = definition
    return _Readable(flags, _read_segments(stored.segments, stored.key_lists), broken)


def _read_flag(key: str, document: Document | None) -> FlagDefinition | str:
    """A flag, validated by itself as strictly as when it was accepted; or what is wrong with it."""
    problems = Problems()
    definition = parse_flag(key, document, problems=problems)
    if definition is None or problems.errors:
        return read_turned_off(key, document) or str(problems.errors[0])
    return definition


def _read_segments(documents: Mapping[str, Document | None], key_lists: Mapping[str, KeyList]) -> dict[str, Segment]:
    """The sound ones; a flag that refers to another one says so when it is evaluated."""
    segments: dict[str, Segment] = {}
    for key, document in documents.items():
        problems = Problems()
        segment = parse_segment(key, document, problems=problems)
        if segment is not None and not problems.errors:
            segments[key] = at_hand(segment, key_lists)
    return segments
