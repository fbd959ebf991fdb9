"""Manage flags: look at them, create and edit them, archive and delete them, copy how they are configured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.access import Action, Scope
from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag
from server.core.copies import CopyConfig
from server.core.definitions.problems import Problems
from server.core.edits import ArchiveFlag, FlagEdit, RestoreFlag, SetEnabled, SetVariants, UpdateFlag
from server.core.errors import InvalidRequest, NotFound, Refused
from server.core.flags import Flag, FlagConfig, FlagDefinition
from server.core.references import of_flag, of_segment
from server.core.segments import Segment
from server.operations.writes import Outcome, Write, Writer, Written, require
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import list_environments, read_environment
from server.store.flags import (
    FlagFilter,
    Listed,
    Page,
    StoredFlag,
    environments_touched,
    environments_with,
    find_flag,
    list_flags,
    versions_of_new,
)
from server.store.flagsets import load_documents
from server.store.mapping import parse_flag, parse_segment
from server.store.versions import ABSENT

KEYS_MAX: Final = 1_000
"""Flags that one write names; one that names none may mean all."""

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1_000

SIMPLE: Final[Mapping[str, bool]] = {"on": True, "off": False}
"""The variants of a flag that is created without any."""


@dataclass(frozen=True, slots=True)
class NewFlag:
    """A flag that is to be created."""

    flag: Flag
    config: FlagConfig
    environments: tuple[str, ...] = ()
    """Where; () is everywhere in the project."""

    enabled_in: frozenset[str] = frozenset()
    """Where it is on from the start."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Configurations that are to be copied between environments."""

    source: str
    target: str
    keys: tuple[str, ...] = ()
    """() is all that are not archived."""

    with_state: bool = False
    with_segments: bool = False
    rerandomise: bool = False


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one database's projects. Writes raise what `Writer.write` raises."""

    engine: Engine
    writer: Writer

    def get(self, project: str, key: str, *, environment: str = "") -> StoredFlag:
        """One flag, with its configurations in one environment or in all. Errors: NotFound."""
        with reading(self.engine) as connection:
            stored = find_flag(
                connection, project=project, environments=_environments(connection, project, environment), key=key
            )
        if stored is None or (environment and not stored.configs):
            raise NotFound(f"flag {key!r} is not in {_place(project, environment)!r}")
        return stored

    def find(self, project: str, key: str) -> StoredFlag | None:
        """One flag with all its configurations, if there is one."""
        with reading(self.engine) as connection:
            names = _environments(connection, project, "")
            return find_flag(connection, project=project, environments=names, key=key)

    def list(
        self, project: str, *, environment: str = "", wanted: FlagFilter, page: Page, with_configs: bool = False
    ) -> Listed:
        """A page of flags. Errors: NotFound when there is no such place; InvalidRequest."""
        if not 1 <= page.size <= PAGE_SIZE_MAX:
            raise InvalidRequest(f"page_size is {page.size}, expected 1 to {PAGE_SIZE_MAX}")
        with reading(self.engine) as connection:
            return list_flags(
                connection,
                project=project,
                environments=_environments(connection, project, environment),
                configured_in=environment,
                wanted=wanted,
                page=page,
                with_configs=with_configs,
            )

    def create(self, project: str, new: NewFlag, write: Write) -> Written:
        """Create a flag. Errors: Conflict when the project has it already; NotFound for an environment."""
        key = new.flag.key
        with reading(self.engine) as connection:
            touched = environments_touched(connection, project=project, key=key, request_id=write.request_id)
            # Sent again, it means the environments that there were at first.
            names = new.environments or tuple(touched or _environments(connection, project, ""))
        strange = sorted(new.enabled_in - set(names))
        if strange:
            raise InvalidRequest(f"enabled_in names {', '.join(strange)}, where the flag is not created")
        parts = [
            Part(name, [PutFlag(FlagDefinition(new.flag, replace(new.config, enabled=name in new.enabled_in)))])
            for name in sorted(set(names))
        ]
        if not parts:
            raise Refused(f"project {project!r} has no environment yet; create one first")
        parts[0] = replace(parts[0], expected_flags={key: ABSENT})
        return self.writer.write(project, parts, replace(write, expected_version=None))

    def edit(self, project: str, environment: str, edits: Sequence[FlagEdit], write: Write) -> Written:
        """Edit flags in one environment. Errors: as `core.edits.edit`; InvalidRequest."""
        keys = list(dict.fromkeys(edit.key for edit in edits))
        _check_keys(keys, write)
        return self.writer.write(project, [_part(environment, edits, keys, write)], write)

    def kill(self, project: str, keys: Sequence[str], write: Write, *, environment: str) -> Written:
        """Turn flags off in one environment or, with "", wherever they are."""
        _check_keys(keys, write)
        if environment:
            return self.edit(project, environment, [SetEnabled(key, False) for key in keys], write)
        places: dict[str, list[Change]] = {}
        for key in keys:
            for name in self._configured(project, key, write):
                places.setdefault(name, []).append(SetEnabled(key, False))
        parts = [Part(name, changes) for name, changes in sorted(places.items())]
        return self.writer.write(project, parts, replace(write, expected_version=None))

    def edit_shared(
        self,
        project: str,
        edit: UpdateFlag | SetVariants | RestoreFlag,
        write: Write,
        *,
        replace_variants: bool = False,
    ) -> Written:
        """Edit what environments share of a flag; it reaches all that have it. Errors: as `core.edits.edit`."""
        first, *_ = self._configured(project, edit.key, write)
        part = Part(first, [edit], expected_flags=_expected(edit.key, write))
        return self.writer.write(project, [part], write, replace_variants=replace_variants)

    def archive(self, project: str, key: str, write: Write) -> Written:
        """Archive a flag. Errors: Refused while flags of any environment require it."""
        # Each environment is asked who requires it there, though the first of them changes it for all.
        names = self._configured(project, key, write)
        parts = [Part(name, [ArchiveFlag(key, write.now)]) for name in names]
        parts[0] = replace(parts[0], expected_flags=_expected(key, write))
        return self.writer.write(project, parts, write)

    def restore(self, project: str, key: str, write: Write) -> Written:
        """Restore an archived flag; a warning says where that turns it on."""
        stored = self.find(project, key)
        written = self.edit_shared(project, RestoreFlag(key), write)
        on = [config.environment for config in stored.configs if config.enabled] if stored else []
        if not on or written.outcome is Outcome.UNCHANGED:
            return written
        return replace(written, warnings=(*written.warnings, f"flag {key!r} comes back on in {', '.join(on)}"))

    def delete(self, project: str, key: str, write: Write, *, force: bool = False) -> Written:
        """Delete a flag everywhere. Errors: Refused when it is not archived, unless forced; when others require it."""
        stored = self.find(project, key)
        names = self._configured(project, key, write)
        is_archived = stored is None or stored.document is None or "archivedAt" in stored.document
        if not is_archived and not force:
            for name in names:
                require(write.principal, write.action, Scope(project, name))
            raise Refused(f"flag {key!r} is not archived; archive it first and see who still needs it, or force it")
        parts = [Part(name, [RemoveFlag(key)]) for name in names]
        # What was seen to be archived must still be so.
        expected = _expected(key, write) or ({key: stored.version} if stored and not force else {})
        parts[0] = replace(parts[0], expected_flags=expected)
        return self.writer.write(project, parts, write)

    def copy(self, project: str, copy: Copy, write: Write) -> Written:
        """Copy configurations from one environment to another, as one commit.

        Errors: NotFound naming flags that are not there; InvalidDefinition when one of them is damaged.
        """
        require(write.principal, Action.READ, Scope(project, copy.source))
        require(write.principal, write.action, Scope(project, copy.target))
        if copy.source == copy.target:
            raise InvalidRequest(f"flags cannot be copied from {copy.source!r} to itself")
        if copy.keys:
            _check_keys(copy.keys, write)
        with reading(self.engine) as connection:
            source = _read_source(connection, project, copy)
            versions = versions_of_new(connection, project=project, environment=copy.target, keys=source.flags)
        changes: list[Change] = [PutSegment(segment) for segment in source.segments]
        changes += [
            CopyConfig(each, keep_enabled=not copy.with_state, rerandomise=copy.rerandomise)
            for each in source.flags.values()
        ]
        if not changes:
            return self.writer.write(project, [Part(copy.target, [])], write)
        part = _part(copy.target, changes, list(source.flags), write)
        # What is new there brings the part that environments share, which must still be what was read.
        return self.writer.write(project, [replace(part, expected_flags=versions)], write)

    def _configured(self, project: str, key: str, write: Write) -> tuple[str, ...]:
        """The environments that have a flag. Errors: NotFound; PermissionDenied for who may not know."""
        with reading(self.engine) as connection:
            touched = environments_touched(connection, project=project, key=key, request_id=write.request_id)
            names = touched or environments_with(connection, project=project, key=key)
        if not names:
            require(write.principal, write.action, Scope(project))
            raise NotFound(f"flag {key!r} is not in project {project!r}")
        return tuple(names)


def completed(config: FlagConfig) -> FlagConfig:
    """The configuration of a flag that was created without variants: it serves `on` when it is on."""
    says_nothing = config.default is None and config.targeting is None
    return replace(config, default="on" if says_nothing else config.default, off_variant=config.off_variant or "off")


def _part(environment: str, changes: Iterable[Change], keys: Sequence[str], write: Write) -> Part:
    expected = {} if write.expected_version is None else {("flag", keys[0]): write.expected_version}
    return Part(environment, list(changes), expected_versions=expected)  # type: ignore[arg-type]  # A literal key.


def _expected(key: str, write: Write) -> Mapping[str, int]:
    return {} if write.expected_version is None else {key: write.expected_version}


def _check_keys(keys: Sequence[str], write: Write) -> None:
    if not 1 <= len(keys) <= KEYS_MAX:
        raise InvalidRequest(f"{len(keys)} flags are named, expected 1 to {KEYS_MAX}")
    if write.expected_version is not None and len(set(keys)) > 1:
        raise InvalidRequest("an expected version is of one flag; name one, or leave the version out")


def _environments(connection: Connection, project: str, environment: str) -> list[str]:
    """The environments that are meant: one, or all of a project. Errors: NotFound."""
    if environment:
        read_environment(connection, project=project, environment=environment)
        return [environment]
    names = [each.environment.key for each in list_environments(connection) if each.environment.project == project]
    if not names:
        raise NotFound(f"project {project!r} does not exist, or has no environment yet")
    return names


def _place(project: str, environment: str) -> str:
    return f"{project}/{environment}" if environment else project


@dataclass(frozen=True, slots=True)
class _Source:
    flags: Mapping[str, FlagDefinition]
    segments: tuple[Segment, ...]


def _read_source(connection: Connection, project: str, copy: Copy) -> _Source:
    stored = load_documents(connection, project=project, environment=copy.source, flags=copy.keys or None)
    missing = [key for key in copy.keys if key not in stored.flags]
    if missing:
        raise NotFound(f"not in {_place(project, copy.source)!r}: {', '.join(map(repr, missing[:10]))}")
    problems = Problems()
    flags: dict[str, FlagDefinition] = {}
    for key, document in stored.flags.items():
        definition = parse_flag(key, document, problems=problems)
        if definition is not None and (copy.keys or definition.flag.archived_at is None):
            flags[key] = definition
    segments: dict[str, Segment] = {}
    wanted = (
        {target for definition in flags.values() for target in of_flag(definition)} if copy.with_segments else set()
    )
    while wanted:
        kind, key = wanted.pop()
        if kind == "segment" and key not in segments and key in stored.segments:
            segment = parse_segment(key, stored.segments[key], problems=problems)
            if segment is not None:
                segments[key] = segment
                wanted |= of_segment(segment)
    problems.raise_if_any()
    return _Source(flags, tuple(segments.values()))
