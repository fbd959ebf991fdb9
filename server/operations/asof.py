"""Evaluate as of an earlier moment, and tell why two moments answer differently."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine

from server.core.audit import AuditEntry, canonical_json
from server.core.definitions.targeting import references as rule_references
from server.core.environments import Environment
from server.core.errors import InvalidRequest, NotFound
from server.core.evaluation.explain import Step
from server.core.evaluation.snapshot import Snapshot
from server.core.json import Json, JsonObject
from server.core.resolution import Resolution
from server.live.loader import Documents, compile_documents, follow_references
from server.operations.explain import steps_of
from server.operations.history import Place, When, moment_when
from server.store.engine import reading
from server.store.flagsets import StoredFlagSet
from server.store.garbage import collector_paused
from server.store.history import (
    Moment,
    Thing,
    documents_at,
    entries_of_revision,
    moment_of,
    revisions_touching,
    things_touched,
)
from server.store.keylists import load_key_lists
from server.store.revisions import load_documents_at

KEPT_MAX: Final = 1_000
"""Flags of past moments that stay compiled, the ones used last."""

EXPLAINED_MAX: Final = 50
"""Flags of one answer for which it is told which revisions moved them."""

WALKED_MAX: Final = 200
"""Revisions of each flag, segment and prerequisite that are tried for one flag, the newest ones."""

_TIMESTAMP: Final = "$flagd.timestamp"


@dataclass(frozen=True, slots=True)
class PastAnswer:
    """An answer as it was given at a moment."""

    resolution: Resolution
    moment: Moment
    now: int
    """The clock that rules looked at. Units: seconds since 1970."""

    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """A revision after which a flag answered otherwise."""

    moment: Moment
    after: Resolution
    entries: tuple[AuditEntry, ...]
    """What the commit did to the flag and to what it depends on."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A flag that answers otherwise at the second of two moments."""

    key: str
    before: Resolution
    after: Resolution
    moves: tuple[Move, ...] = ()
    by_clock: bool = False
    """No revision moved it to the answer it has: a rule looked at the time."""

    is_explained: bool = True
    """False: there were too many such flags, or revisions, to try them all."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What differs between two moments for one context."""

    first: Moment
    second: Moment
    moved: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One flag of a past moment, with what it refers to."""

    snapshot: Snapshot
    stored: StoredFlagSet

    @property
    def things(self) -> frozenset[Thing]:
        flags = (("flag", key) for key in self.stored.flags)
        return frozenset((*flags, *(("segment", key) for key in self.stored.segments)))


@dataclass(slots=True)
class AsOf:
    """Evaluates what one database held at any moment; what was compiled stays for a while."""

    engine: Engine
    kept_max: int = KEPT_MAX
    _kept: "OrderedDict[tuple[Any, ...], _Compiled]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def evaluate(
        self, place: Place, key: str, context: Mapping[str, Any], *, when: When, explained: bool = False
    ) -> PastAnswer:
        """What a flag answered at a moment: by its rules, segments and prerequisites of then, and by the clock of then.

        Errors: NotFound when the environment was not there; StoreUnavailable.
        """
        with reading(self.engine) as connection:
            moment = moment_when(connection, place, when)
            compiled = self._compiled(connection, moment, key)
        now = _now(moment, when)
        resolution = compiled.snapshot.resolve(key, context, now)
        steps = steps_of(compiled.stored, resolution, context, now=now) if explained else ()
        return PastAnswer(resolution, moment, now, steps)

    def compare(
        self, place: Place, context: Mapping[str, Any], *, first: When, second: When, keys: Sequence[str] = ()
    ) -> Moments:
        """The flags that answer otherwise at the second moment, and what moved each; all flags when no keys are given.

        Errors: InvalidRequest when the second moment is before the first; NotFound; StoreUnavailable.
        """
        with reading(self.engine) as connection:
            start, end = moment_when(connection, place, first), moment_when(connection, place, second)
            started, ended = _now(start, first), _now(end, second)
            if (end.revision, ended) < (start.revision, started):
                raise InvalidRequest(
                    f"the second moment (revision {end.revision}) is before the first (revision {start.revision}); "
                    "exchange them"
                )
            if keys:
                answers = []
                for key in sorted(set(keys)):
                    one, other = (self._compiled(connection, each, key).snapshot for each in (start, end))
                    answers.append((key, one.resolve(key, context, started), other.resolve(key, context, ended)))
            else:
                candidates, then, later = _whole(connection, start, end)
                answers = [
                    (key, then.resolve(key, context, started), later.resolve(key, context, ended))
                    for key in sorted(candidates)
                ]
            changed = [each for each in answers if answer_of(each[1]) != answer_of(each[2])]
            walk = _Walk(self, connection, start, end, context)
            moved = [
                walk.explained(key, before, after, ended=ended)
                if number < EXPLAINED_MAX
                else Moved(key, before, after, is_explained=False)
                for number, (key, before, after) in enumerate(changed)
            ]
        return Moments(start, end, tuple(moved))

    def _compiled(self, connection: Connection, moment: Moment, key: str) -> _Compiled:
        # A database that was put back may have another commit under the same number, not at the same instant.
        name = (moment.environment.project, moment.environment.key, moment.revision, moment.at, key)
        with self._lock:
            known = self._kept.get(name)
            if known is not None:
                self._kept.move_to_end(name)
                return known
        compiled = _compile(connection, moment, key)
        with self._lock:
            self._kept[name] = compiled
            while len(self._kept) > self.kept_max:
                self._kept.popitem(last=False)
        return compiled


class _Walk:
    """Finds the revisions between two moments after which a flag answered otherwise."""

    def __init__(
        self, past: AsOf, connection: Connection, start: Moment, end: Moment, context: Mapping[str, Any]
    ) -> None:
        self._past, self._connection, self._context = past, connection, context
        self._start, self._end, self._where = start, end, end.environment
        self._moments: dict[int, Moment] = {}

    def explained(self, key: str, before: Resolution, after: Resolution, *, ended: int) -> Moved:
        things = self._things(self._start, key) | self._things(self._end, key)
        while True:
            revisions = self._revisions(things)
            # A revision in between may have referred to something that neither end refers to.
            more = things.union(*(self._things(self._moment(each), key) for each in revisions))
            if more == things:
                break
            things = more
        moves: list[Move] = []
        last = before
        for revision in revisions:
            moment = self._moment(revision)
            compiled = self._past._compiled(self._connection, moment, key)
            found = compiled.snapshot.resolve(key, self._context, int(moment.at.timestamp()))
            if answer_of(found) != answer_of(last):
                entries = entries_of_revision(self._connection, self._where, revision, sorted(things))
                moves.append(Move(moment, found, tuple(entries)))
                last = found
        is_whole = len(revisions) < WALKED_MAX
        return Moved(key, before, after, tuple(moves), answer_of(last) != answer_of(after), is_whole)

    def _revisions(self, things: Collection[Thing]) -> list[int]:
        wanted = {*things, ("environment", self._where.key)}
        found = revisions_touching(
            self._connection,
            self._where,
            wanted,
            after=self._start.revision,
            until=self._end.revision,
            limit=WALKED_MAX,
        )
        # Where the environment was deleted for a while, there was nothing that could answer.
        return [each for each in found[-WALKED_MAX:] if self._existed(each)]

    def _existed(self, revision: int) -> bool:
        try:
            self._moment(revision)
        except NotFound:
            return False
        return True

    def _moment(self, revision: int) -> Moment:
        known = self._moments.get(revision)
        if known is None:
            where = self._where
            known = moment_of(self._connection, project=where.project, environment=where.key, revision=revision)
            self._moments[revision] = known
        return known

    def _things(self, moment: Moment, key: str) -> frozenset[Thing]:
        return self._past._compiled(self._connection, moment, key).things | {("flag", key)}


def answer_of(resolution: Resolution) -> tuple[Any, ...]:
    """What an application notices of an answer: the variant, the value, and whether it is an error."""
    return resolution.variant, canonical_json(resolution.value), resolution.error_code


def _now(moment: Moment, when: When) -> int:
    return int((moment.at if when.at is None else when.at).timestamp())


def _compile(connection: Connection, moment: Moment, key: str) -> _Compiled:
    """Read and compile one flag of a moment and what it needs, of thousands."""

    def load(flags: Collection[str], segments: Collection[str]) -> tuple[Documents, Documents]:
        return (
            documents_at(connection, moment, "flag", flags),
            documents_at(connection, moment, "segment", segments),
        )

    where: Environment = moment.environment
    flags, segments = follow_references(where, [key], load)
    # Of a large segment's keys only those of now are kept; where others are needed, the
    # answer is an error that says so.
    stored = StoredFlagSet(where, moment.revision, flags, segments, load_key_lists(connection, where, segments))
    return _Compiled(compile_documents(stored), stored)


def _whole(connection: Connection, start: Moment, end: Moment) -> tuple[frozenset[str], Snapshot, Snapshot]:
    """Every flag whose answer can be another one at the second moment, and these flags as of both.

    Those are: what was touched between, what looks at the clock, and whoever depends on one of them.
    """
    here = end.environment
    touched = things_touched(connection, here, after=start.revision, until=end.revision)
    both = [
        load_documents_at(connection, project=here.project, environment=here.key, revision=moment.revision)
        for moment in (start, end)
    ]
    if start.environment.bucketing is end.environment.bucketing:
        keys = frozenset().union(*(_affected(stored, touched) for stored in both))
    else:
        keys = frozenset().union(*(stored.flags for stored in both))
    return keys, _snapshot(both[0], keys), _snapshot(both[1], keys)


def _snapshot(stored: StoredFlagSet, keys: Collection[str]) -> Snapshot:
    """Some flags of a set that was read whole, and all that they refer to."""

    def load(flags: Collection[str], segments: Collection[str]) -> tuple[Documents, Documents]:
        return (
            {key: stored.flags[key] for key in flags if key in stored.flags},
            {key: stored.segments[key] for key in segments if key in stored.segments},
        )

    with collector_paused(len(keys)):
        flags, segments = follow_references(stored.environment, keys, load)
        return compile_documents(replace(stored, flags=flags, segments=segments))


def _affected(stored: StoredFlagSet, touched: Collection[Thing]) -> set[str]:
    """The flags that were touched or look at the clock, and those that depend on such a flag or segment."""
    named_by: dict[Thing, list[Thing]] = {}
    fresh: list[Thing] = list(touched)
    for kind, documents in (("flag", stored.flags), ("segment", stored.segments)):
        for key, document in documents.items():
            if document is None:
                continue
            for rule in _rules(document):
                for segment in rule_references(rule):
                    named_by.setdefault(("segment", segment), []).append((kind, key))
                if _TIMESTAMP in canonical_json(rule):
                    fresh.append((kind, key))
            for prerequisite in document.get("prerequisites", ()):
                named_by.setdefault(("flag", prerequisite.get("flag", "")), []).append((kind, key))
    found: set[Thing] = set(fresh)
    while fresh:
        for thing in named_by.get(fresh.pop(), ()):
            if thing not in found:
                found.add(thing)
                fresh.append(thing)
    return {key for kind, key in found if kind == "flag" and key in stored.flags}


def _rules(document: JsonObject) -> Iterator[Json]:
    for name in ("targeting", "condition"):
        if document.get(name) is not None:
            yield document[name]
    for rule in document.get("rules", ()):
        if isinstance(rule, Mapping) and rule.get("condition") is not None:
            yield rule["condition"]
