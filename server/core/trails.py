"""Verify a trail of audit entries: find what was edited, removed, put elsewhere or cut off, and name it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from server.core.audit import GENESIS, Row, row_hash

BREAKS_MAX: Final = 1_000
"""Breaks that are named; a trail of which every entry was written anew has as many as entries."""

MOVED_AMONG_MAX: Final = 200
"""Changed entries among which one is looked for that only changed its place."""

_UNKNOWN: Final = ""
"""Stands for the hash of an entry that cannot be read."""

_SEQUENCE, _HASH, _PREVIOUS, _PROJECT, _ENVIRONMENT, _REVISION = range(6)


class BreakKind(StrEnum):
    """What was done to a trail."""

    CHANGED = "changed"
    MISSING = "missing"
    MOVED = "moved"
    DETACHED = "detached"
    """It is whole, and follows from another entry than the one before it."""

    TRUNCATED = "truncated"
    """Entries at the end are missing."""

    REWRITTEN = "rewritten"
    """The chain is whole, and not the one that a signed head tells of."""

    STRAY = "stray"
    """A row that is in no trail's order."""


_EXPLAINING: Final = frozenset({BreakKind.MISSING, BreakKind.CHANGED, BreakKind.MOVED})


@dataclass(frozen=True, slots=True)
class Break:
    """One place at which a trail is not what was written."""

    project: str
    """"" is the server's own trail."""

    sequence: int
    """The entry, or the first one of those that are missing; 0 for a row that has no place."""

    kind: BreakKind
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry of a trail that is known from elsewhere, such as a signed head."""

    sequence: int
    hash: str
    known_from: str = "a signed head"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found in one trail."""

    project: str
    entry_count: int
    last_sequence: int
    last_hash: str
    """Of the last entry; GENESIS for an empty trail."""

    breaks: tuple[Break, ...] = ()
    unnamed_count: int = 0
    """Further breaks, beyond BREAKS_MAX."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.breaks


class Verification:
    """Takes a trail's rows in their order, a portion at a time, and says in the end what is wrong.

    Shapes: marks by any order; environments: environment -> revision that its newest entry must at least have.
    """

    def __init__(self, project: str, *, marks: Iterable[Mark] = (), environments: Mapping[str, int] | None = None):
        self.project = project
        self._marks = tuple(marks)
        self._wanted = frozenset(mark.sequence for mark in self._marks)
        self._found: dict[int, str] = {}
        self._environments = environments or {}
        self._revisions: dict[Any, int] = {}
        self._changed: list[Row] = []
        self._breaks: list[Break] = []
        self._unnamed = 0
        self._count = 0
        self._expected = 1
        self._previous = GENESIS

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last row that was taken."""
        return self._expected - 1

    def take(self, rows: Sequence[Row]) -> None:
        """Check rows that follow those that were taken before; as ROW has their values."""
        # One loop over plain values: a trail may have millions of entries, and each microsecond here counts.
        expected, previous = self._expected, self._previous
        revisions, wanted, project = self._revisions, self._wanted, self.project
        for row in rows:
            sequence = row[_SEQUENCE]
            follows = sequence == expected and row[_PREVIOUS] == previous
            if not follows and not self._has_place(row, expected, previous):
                continue
            try:
                is_sound = row_hash(row) == row[_HASH] and row[_PROJECT] == project
            except (TypeError, AttributeError):
                is_sound = False
            if not is_sound:
                self._note_changed(row)
            elif sequence in wanted:
                self._found[sequence] = row[_HASH]
            environment = row[_ENVIRONMENT]
            revision = row[_REVISION]
            if environment and type(revision) is int and revision > revisions.get(environment, 0):
                revisions[environment] = revision
            expected, previous = sequence + 1, row[_HASH]
            self._count += 1
        self._expected, self._previous = expected, previous

    def unreadable(self, sequence: int) -> None:
        """Note a row that the database cannot give as its columns' types."""
        if sequence > self._expected:
            self._missing(self._expected, sequence - 1)
        self._add(sequence, BreakKind.CHANGED, f"entry {sequence} was changed after it was written: it cannot be read")
        self._count += 1
        self._expected, self._previous = sequence + 1, _UNKNOWN

    def stray(self, count: int) -> None:
        """Note rows that belong to no project's trail."""
        rows = "row is" if count == 1 else "rows are"
        self._add(0, BreakKind.STRAY, f"{count} {rows} in no trail: their project or sequence number was changed")

    def end(self) -> Verified:
        """All that is wrong."""
        self._name_changed()
        self._compare_marks()
        self._compare_revisions()
        ordered = tuple(sorted(self._breaks, key=lambda each: each.sequence))
        return Verified(self.project, self._count, self.last_sequence, self._previous, ordered, self._unnamed)

    def _has_place(self, row: Row, expected: int, previous: str) -> bool:
        """Note why a row does not follow from the one before it; False when it has no place at all."""
        sequence = row[_SEQUENCE]
        if type(sequence) is not int or sequence < expected:
            self._add(0, BreakKind.STRAY, f"a row has the sequence number {str(sequence)[:40]!r}, which no entry has")
            return False
        if sequence > expected:
            self._missing(expected, sequence - 1)
        elif previous != _UNKNOWN:
            text = f"entry {sequence} does not follow from the entry before it"
            self._add(sequence, BreakKind.DETACHED, text)
        return True

    def _missing(self, first: int, last: int) -> None:
        what = f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
        self._add(first, BreakKind.MISSING, f"{what}, entry {last + 1} follows")

    def _note_changed(self, row: Row) -> None:
        if len(self._changed) < MOVED_AMONG_MAX:
            self._changed.append(row)
        else:
            self._add_changed(row)

    def _name_changed(self) -> None:
        """Tell entries that were written as another one from those that were edited."""
        places = [row[_SEQUENCE] for row in self._changed]
        for row in self._changed:
            origin = next((place for place in places if _was_written_as(place, row)), None)
            if origin is None:
                self._add_changed(row)
            else:
                text = f"entry {row[_SEQUENCE]} is out of its place: it was written as entry {origin}"
                self._add(row[_SEQUENCE], BreakKind.MOVED, text)

    def _add_changed(self, row: Row) -> None:
        sequence = row[_SEQUENCE]
        self._add(sequence, BreakKind.CHANGED, f"entry {sequence} was changed after it was written")

    def _compare_marks(self) -> None:
        for mark in self._marks:
            if mark.sequence > self.last_sequence:
                first = self.last_sequence + 1
                what = f"entry {first} is" if first == mark.sequence else f"entries {first} to {mark.sequence} are"
                text = f"{what} missing at the end: {mark.known_from} has {mark.sequence}"
                self._add(first, BreakKind.TRUNCATED, text)
            elif mark.sequence and self._found.get(mark.sequence) != mark.hash:
                text = f"entry {mark.sequence} is not the one that {mark.known_from} tells of: the trail was rewritten"
                self._add(mark.sequence, BreakKind.REWRITTEN, text)

    def _compare_revisions(self) -> None:
        # What is missing or illegible further up may be what the environment is ahead by.
        if any(each.kind in _EXPLAINING for each in self._breaks):
            return
        for environment, revision in self._environments.items():
            known = self._revisions.get(environment, 0)
            if known < revision:
                text = (
                    f"entries after {self.last_sequence} are missing: environment {environment!r} is at revision "
                    f"{revision}, and the trail ends with revision {known} of it"
                )
                self._add(self.last_sequence + 1, BreakKind.TRUNCATED, text)

    def _add(self, sequence: int, kind: BreakKind, text: str) -> None:
        if len(self._breaks) < BREAKS_MAX:
            self._breaks.append(Break(self.project, sequence, kind, text))
        else:
            self._unnamed += 1


def _was_written_as(sequence: int, row: Row) -> bool:
    try:
        return bool(sequence != row[_SEQUENCE] and row_hash((sequence, *row[1:])) == row[_HASH])
    except (TypeError, AttributeError):
        return False
