"""Manage segments."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from server.core.changes import Change, KeysChange, PutSegment, RemoveSegment
from server.core.definitions.problems import Problems
from server.core.errors import InvalidRequest, NotFound, Stale
from server.core.events import SegmentUpdated
from server.core.keylists import KeyList
from server.core.segments import Segment
from server.operations.flagsets import COMMIT_ATTEMPTS_MAX
from server.operations.writes import Write, Writer, Written
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import read_environment
from server.store.flagsets import load_parts
from server.store.keylists import Place, find_keys, list_keys
from server.store.mapping import parse_segment
from server.store.segments import KeyPage, page_of_segments
from server.store.usage import Use, users_of
from server.store.versions import ABSENT, Thing, read_versions


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment as it is stored. Of a large one the keys are not at hand."""

    segment: Segment
    version: int


@dataclass(frozen=True, slots=True)
class KeysWritten:
    """What adding or removing keys did."""

    written: Written
    changed: int
    """Keys that were not there before, or were."""

    count: int
    """Keys afterwards."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments of one database. Errors of writes: as Writer."""

    engine: Engine
    writer: Writer

    def create(self, project: str, environment: str, segment: Segment, write: Write) -> Written:
        """Create a segment. Errors: Conflict when there is one of its key."""
        version = ABSENT if write.expected_version is None else write.expected_version
        expected: dict[Thing, int] = {("segment", segment.key): version}
        return self._write(project, environment, PutSegment(segment), expected, write)

    def read(self, project: str, environment: str, key: str) -> StoredSegment:
        """One segment. Errors: NotFound; InvalidDefinition when it is damaged."""
        with reading(self.engine) as connection:
            here = read_environment(connection, project=project, environment=environment).environment
            _, documents = load_parts(connection, here, flags=(), segments=[key])
            if key not in documents:
                raise NotFound(f"segment {key!r} is not in {here.flag_set!r}")
            versions = read_versions(connection, project=project, environment=environment, kind="segment", keys=[key])
        problems = Problems()
        segment = parse_segment(key, documents[key], problems=problems)
        problems.raise_if_any()
        assert segment is not None  # Without a problem there is one.
        return StoredSegment(segment, versions.get(key, 0))

    def list_page(self, project: str, environment: str, page: KeyPage) -> tuple[list[StoredSegment], int]:
        """A page of segments, and how many there are on all pages; a damaged one shows no members."""
        with reading(self.engine) as connection:
            here = read_environment(connection, project=project, environment=environment).environment
            documents, total = page_of_segments(connection, here, page)
            versions = read_versions(
                connection, project=project, environment=environment, kind="segment", keys=list(documents)
            )
        found = [
            StoredSegment(
                parse_segment(key, document, problems=Problems()) or Segment(key, keys=()), versions.get(key, 0)
            )
            for key, document in documents.items()
        ]
        return found, total

    def update(
        self, project: str, environment: str, key: str, *, change: Callable[[Segment], Segment], write: Write
    ) -> Written:
        """Change a segment as it is stored. Errors: NotFound; Stale when it changes all the time."""
        attempts = COMMIT_ATTEMPTS_MAX if write.expected_version is None else 1
        while True:
            stored = self.read(project, environment, key)
            version = stored.version if write.expected_version is None else write.expected_version
            put = PutSegment(change(stored.segment))
            try:
                return self._write(project, environment, put, {("segment", key): version}, write)
            except Stale:
                attempts -= 1
                if not attempts:
                    raise

    def delete(self, project: str, environment: str, key: str, write: Write) -> Written:
        """Delete a segment that nobody refers to."""
        return self._write(project, environment, RemoveSegment(key), _expected(key, write), write)

    def change_keys(self, project: str, environment: str, change: KeysChange, write: Write) -> KeysWritten:
        """Add or remove keys, as one commit."""
        written = self._write(project, environment, change, _expected(change.key, write), write)
        for event in written.events.get(environment, ()):
            if isinstance(event, SegmentUpdated):
                before, after = (count_keys(segment) for segment in (event.before, event.after))
                return KeysWritten(written, abs(after - before), after)
        return KeysWritten(written, 0, count_keys(self.read(project, environment, change.key).segment))

    def usage(self, project: str, environment: str, key: str) -> list[Use]:
        """Who refers to a segment, the nearest first. Errors: NotFound."""
        with reading(self.engine) as connection:
            here = read_environment(connection, project=project, environment=environment).environment
            _, documents = load_parts(connection, here, flags=(), segments=[key])
            if key not in documents:
                raise NotFound(f"segment {key!r} is not in {here.flag_set!r}")
            return users_of(connection, here, ("segment", key))

    def list_keys(
        self, project: str, environment: str, key: str, *, after: Place | None, limit: int
    ) -> tuple[list[tuple[Place, str]], int]:
        """A page of a segment's keys, each with the place behind which the next page begins, and how many there are.

        Errors: NotFound; InvalidRequest when it has a condition.
        """
        segment = self._listed(project, environment, key)
        if segment.keys is not None:
            ordered = [((0, text), text) for text in sorted(segment.keys)]
            return [each for each in ordered if after is None or each[0] > after][:limit], len(ordered)
        with reading(self.engine) as connection:
            here = read_environment(connection, project=project, environment=environment).environment
            return list_keys(connection, here, key, after=after, limit=limit), count_keys(segment)

    def find(self, project: str, environment: str, key: str, wanted: Sequence[str]) -> list[str]:
        """Those of some keys that are in a segment's list. Errors: as `keys`."""
        segment = self._listed(project, environment, key)
        listed: Collection[object] | KeyList = frozenset(segment.keys or ())
        if segment.key_list is not None:
            with reading(self.engine) as connection:
                here = read_environment(connection, project=project, environment=environment).environment
                listed = find_keys(connection, here, key, wanted)
        return [text for text in wanted if text in listed]

    def _listed(self, project: str, environment: str, key: str) -> Segment:
        segment = self.read(project, environment, key).segment
        if segment.keys is None and segment.key_list is None:
            raise InvalidRequest(f"segment {key!r} has a condition and no list of keys")
        return segment

    def _write(
        self, project: str, environment: str, change: Change, expected: dict[Thing, int], write: Write
    ) -> Written:
        return self.writer.write(project, [Part(environment, [change], expected_versions=expected)], write)


def count_keys(segment: Segment) -> int:
    """How many keys a segment lists."""
    return len(segment.keys or ()) if segment.key_list is None else segment.key_list.count


def _expected(key: str, write: Write) -> dict[Thing, int]:
    return {} if write.expected_version is None else {("segment", key): write.expected_version}
