"""Load what a change touches together with everything whose soundness the change can affect."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Select, bindparam, literal, select, union_all

from server.core import references
from server.core.changes import (
    AddSegmentKeys,
    Change,
    PutFlag,
    PutSegment,
    RemoveFlag,
    RemoveSegment,
    RemoveSegmentKeys,
)
from server.core.copies import CopyConfig
from server.core.definitions.problems import Problems
from server.core.edits import AddRule, FlagEdit, ReplaceRule, SetEnabled, SetPrerequisites, UpdateConfig
from server.core.environments import Environment
from server.core.errors import InvalidDefinition, Problem
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.flagsets import FlagSet
from server.core.keylists import KeyList
from server.core.references import Target
from server.core.segments import Segment
from server.store import tables
from server.store.flagsets import in_parts, raw
from server.store.mapping import Document, FlagText, as_text, merged, parse, parse_flag, parse_segment
from server.store.statements import Statement

ONE_BY_ONE_MAX: Final = 8
"""So many things are asked for by statements that are spelled already."""

WHOLE_SET_FROM: Final = 1_000
"""With this many things in sight it is quicker to read all than to choose."""


Edge: TypeAlias = tuple[str, str, str, str]
"""The columns from which an edge of the graph of references starts, and those at which it ends."""

REFERRING: Final[Edge] = ("target_kind", "target_key", "kind", "key")
REFERRED: Final[Edge] = ("kind", "key", "target_kind", "target_key")


def _edges(edge: Edge) -> Select[Any]:
    table = tables.references.c
    from_kind, from_key, to_kind, to_key = (table[name] for name in edge)
    return select(literal(edge == REFERRED), to_kind, to_key).where(
        table.project == bindparam("of_project"),
        table.environment == bindparam("of_environment"),
        from_kind == bindparam("of_kind"),
        from_key == bindparam("of_key"),
    )


def _flags_of(environment: Any) -> Select[Any]:
    flag, config = tables.flags, tables.flag_configs
    here = (config.c.project == flag.c.project) & (config.c.key == flag.c.key) & (config.c.environment == environment)
    columns = (flag.c.key, raw(flag.c.document), raw(config.c.document), config.c.sync_bytes)
    return select(*columns).join_from(flag, config, here, isouter=True)


_REFERRED: Final = Statement(_edges(REFERRED))
_BOTH_WAYS: Final = Statement(union_all(_edges(REFERRING), _edges(REFERRED)))
_FLAG: Final = Statement(
    _flags_of(bindparam("of_environment")).where(
        tables.flags.c.project == bindparam("of_project"), tables.flags.c.key == bindparam("of_key")
    )
)


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Part of a flag set: what is touched, whoever depends on it, and what all of these refer to."""

    flag_set: FlagSet
    """A damaged flag or segment stands here as an empty one, so that it can still be turned off, replaced, removed."""

    flag_parts: Mapping[str, str]
    """The stored text of flags as all environments share it; also of flags that only others configure."""

    config_texts: Mapping[str, str]
    segment_texts: Mapping[str, str]
    sync_bytes: Mapping[str, int]
    """What flags were counted to take of the text for in-process clients, where that is known."""

    damaged: frozenset[Target]

    @property
    def segment_documents(self) -> dict[str, Document | None]:
        """The segments as they are stored."""
        return {key: parse(text) for key, text in self.segment_texts.items()}

    def flag_text(self, key: str) -> FlagText | None:
        """A flag of this environment as it is stored."""
        config = self.config_texts.get(key)
        return None if config is None else FlagText(self.flag_parts[key], config)


def subjects_of(changes: Iterable[Change]) -> dict[Target, frozenset[Target]]:
    """The flags and segments that changes touch, each with what it will refer to beside what it refers to now."""
    subjects: dict[Target, frozenset[Target]] = {}
    for change in changes:
        if isinstance(change, FlagEdit):
            named = subjects.get(("flag", change.key), frozenset())
            subjects["flag", change.key] = named | _named_by(change)
            continue
        match change:
            case PutFlag(definition) | CopyConfig(definition):
                subjects["flag", definition.key] = references.of_flag(definition)
            case RemoveFlag(key):
                subjects["flag", key] = frozenset()
            case PutSegment(segment):
                subjects["segment", segment.key] = references.of_segment(segment)
            case RemoveSegment(key) | AddSegmentKeys(key) | RemoveSegmentKeys(key):
                subjects["segment", key] = frozenset()
    return subjects


def _named_by(change: FlagEdit) -> frozenset[Target]:
    match change:
        case AddRule(_, rule) | ReplaceRule(_, rule):
            return references.of_config(FlagConfig(rules=(rule,)))
        case SetPrerequisites(_, prerequisites):
            return references.of_config(FlagConfig(prerequisites=prerequisites))
        case UpdateConfig(_, config):
            return references.of_config(config)
    return frozenset()


def is_placeholder(definition: FlagDefinition) -> bool:
    """Whether it stands for a damaged flag: no other one is without variants."""
    return not definition.flag.variants


def refuse_damaged(near: Neighbourhood, changes: Iterable[Change]) -> None:
    """Refuse to edit what cannot be read; turning it off, replacing it whole and removing it are possible.

    Errors: InvalidDefinition with what is wrong with it as it is stored.
    """
    for change in changes:
        if not isinstance(change, FlagEdit) or ("flag", change.key) not in near.damaged:
            continue
        text = near.flag_text(change.key)
        if text is None or (isinstance(change, SetEnabled) and not change.enabled):
            continue
        problems = Problems()
        parse_flag(change.key, parse(text.merged), problems=problems)
        advice = Problem(
            f"/flags/{change.key}",
            "the stored definition is damaged, so it cannot be edited; turn the flag off, import it anew, or delete it",
        )
        raise InvalidDefinition([advice, *problems.errors])


def load_neighbourhood(
    connection: Connection,
    environment: Environment,
    *,
    subjects: Mapping[Target, Collection[Target]],
    whole: bool = False,
) -> Neighbourhood:
    """Load the part of an environment that a change of these subjects needs, or the whole of it."""
    needed = None if whole else needed_by(connection, environment, subjects=subjects)
    if needed is None:
        return _load(connection, environment, flags=None, segments=None)
    flags = {key for kind, key in needed if kind == "flag"}
    segments = {key for kind, key in needed if kind == "segment"}
    return _load(connection, environment, flags=flags, segments=segments)


def needed_by(
    connection: Connection, environment: Environment, *, subjects: Mapping[Target, Collection[Target]]
) -> set[Target] | None:
    """The subjects, whoever refers to them, and what all of these refer to; None when that is too much to choose."""
    known: _Known = {}
    dependents = _closure(connection, environment, start=set(subjects), edge=REFERRING, known=known)
    if dependents is None:
        return None
    future = {target for targets in subjects.values() for target in targets}
    return _closure(connection, environment, start=dependents | future, edge=REFERRED, known=known)


def _closure(
    connection: Connection, environment: Environment, *, start: set[Target], edge: Edge, known: "_Known"
) -> set[Target] | None:
    table = tables.references.c
    from_kind, from_key, to_kind, to_key = (table[name] for name in edge)
    seen, frontier = set(start), set(start)
    while frontier:
        if len(seen) >= WHOLE_SET_FROM:
            return None
        if len(frontier) <= ONE_BY_ONE_MAX:
            find = _referring if edge == REFERRING else _referred
            found = set().union(*(find(connection, environment, each, known=known) for each in frontier))
            frontier = found - seen
            seen |= frontier
            continue
        query = (
            select(from_kind, from_key, to_kind, to_key)
            .where(table.project == environment.project, table.environment == environment.key)
            .where(from_kind.in_(sorted({kind for kind, _ in frontier})))
        )
        found = set()
        for part in in_parts(query, from_key, {key for _, key in frontier}):
            rows = connection.execute(part)
            found.update((kind, key) for own_kind, own_key, kind, key in rows if (own_kind, own_key) in frontier)
        frontier = found - seen
        seen |= frontier
    return seen


_Known: TypeAlias = dict[Target, set[Target]]
"""Whom things refer to, as far as that was found on the way."""


def _referring(connection: Connection, environment: Environment, to: Target, *, known: _Known) -> set[Target]:
    # Whoever depends on the change is asked next what it refers to; one question gives both.
    rows = _BOTH_WAYS.all(connection, **_asked(environment, to))
    known[to] = {(kind, key) for is_referred, kind, key in rows if is_referred}
    return {(kind, key) for is_referred, kind, key in rows if not is_referred}


def _referred(connection: Connection, environment: Environment, by: Target, *, known: _Known) -> set[Target]:
    found = known.get(by)
    if found is None:
        found = {(kind, key) for _, kind, key in _REFERRED.all(connection, **_asked(environment, by))}
    return found


def _asked(environment: Environment, of: Target) -> dict[str, str]:
    kind, key = of
    return {"of_project": environment.project, "of_environment": environment.key, "of_kind": kind, "of_key": key}


def _load(
    connection: Connection,
    environment: Environment,
    *,
    flags: Collection[str] | None,
    segments: Collection[str] | None,
) -> Neighbourhood:
    loaded = _Loading({}, {}, {}, {}, {}, {}, set())
    for key, flag_raw, config_raw, sync_bytes in _flag_rows(connection, environment, flags):
        _add_flag(loaded, key, flag_raw, config_raw)
        if sync_bytes is not None:
            loaded.sync_bytes[key] = sync_bytes
    for key, segment_raw in _segment_rows(connection, environment, segments):
        _add_segment(loaded, key, segment_raw)
    return Neighbourhood(
        FlagSet(environment, loaded.flags, loaded.segments),
        loaded.flag_parts,
        loaded.config_texts,
        loaded.segment_texts,
        loaded.sync_bytes,
        frozenset(loaded.damaged),
    )


def _flag_rows(connection: Connection, environment: Environment, keys: Collection[str] | None) -> Iterator[Any]:
    if keys is not None and len(keys) <= ONE_BY_ONE_MAX:
        of = {"of_project": environment.project, "of_environment": environment.key}
        for key in sorted(keys):
            yield from _FLAG.all(connection, **of, of_key=key)
        return
    query = _flags_of(environment.key).where(tables.flags.c.project == environment.project)
    for part in in_parts(query, tables.flags.c.key, keys):
        yield from connection.execute(part)


def _segment_rows(connection: Connection, environment: Environment, keys: Collection[str] | None) -> Iterator[Any]:
    if keys is not None and not keys:
        return
    segment = tables.segments.c
    query = select(segment.key, raw(segment.document)).where(
        segment.project == environment.project, segment.environment == environment.key
    )
    for part in in_parts(query, segment.key, keys):
        yield from connection.execute(part)


@dataclass(frozen=True, slots=True)
class _Loading:
    flag_parts: dict[str, str]
    config_texts: dict[str, str]
    segment_texts: dict[str, str]
    sync_bytes: dict[str, int]
    flags: dict[str, FlagDefinition]
    segments: dict[str, Segment]
    damaged: set[Target]


def _add_flag(loaded: _Loading, key: str, flag_raw: bytes | str, config_raw: bytes | str | None) -> None:
    loaded.flag_parts[key] = as_text(flag_raw)
    if config_raw is None:
        return
    loaded.config_texts[key] = as_text(config_raw)
    definition = parse_flag(key, merged(parse(flag_raw), parse(config_raw)), problems=Problems())
    if definition is None:
        loaded.damaged.add(("flag", key))
        is_off = (parse(config_raw) or {}).get("enabled") is False
        definition = FlagDefinition(Flag(key, ValueType.BOOLEAN, {}), FlagConfig(enabled=not is_off))
    loaded.flags[key] = definition


def _add_segment(loaded: _Loading, key: str, segment_raw: bytes | str) -> None:
    loaded.segment_texts[key] = as_text(segment_raw)
    segment = parse_segment(key, parse(segment_raw), problems=Problems())
    if segment is None:
        loaded.damaged.add(("segment", key))
        segment = Segment(key, keys=())
    loaded.segments[key] = segment


def with_keys(near: Neighbourhood, key_lists: Mapping[str, KeyList]) -> Neighbourhood:
    """The same with the keys of some large segments at hand."""
    segments = near.flag_set.segments
    brought = {key: replace(segments[key], key_list=keys) for key, keys in key_lists.items()}
    return replace(near, flag_set=replace(near.flag_set, segments={**segments, **brought}))
