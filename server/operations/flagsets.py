"""Import a flag set from a file, and export it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

from sqlalchemy import Engine

from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    PutFlag,
    PutSegment,
    RemoveFlag,
    RemoveSegment,
    UpdateEnvironment,
    apply_all,
)
from server.core.definitions.documents import Read, read_document, write_document
from server.core.definitions.flagd import is_flagd, left_out, read_flagd, write_flagd
from server.core.definitions.flagsets import check_flag_set
from server.core.definitions.text import parse_text
from server.core.environments import Bucketing, Environment
from server.core.errors import InvalidDefinition, NotFound, Problem, Stale
from server.core.evaluation.exporting import check_sync_bytes, flag_bytes
from server.core.events import EnvironmentUpdated, Event
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.operations.bucketing import moved_users
from server.operations.touching import touched
from server.store.commit import commit
from server.store.engine import reading
from server.store.environments import find_environment, list_environments, read_environment
from server.store.flagsets import load_documents, read_flag_set
from server.store.projects import list_projects

COMMIT_ATTEMPTS_MAX: Final = 5
"""Others may commit between an import's look and its commit; then it looks again."""


Tell: TypeAlias = Callable[[str], None]


def _say_nothing(_line: str) -> None:
    """Keep a warning to itself."""


class Format(StrEnum):
    """How a flag set is written."""

    FLAGSTAFF = "flagstaff"
    FLAGD = "flagd"


@dataclass(frozen=True, slots=True)
class Place:
    """The environment that a file is for; what is None is the file's to say, then the default's."""

    project: str | None
    environment: str | None
    default_project: str = ""
    default_environment: str = ""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What a file defines."""

    flag_set: FlagSet
    format: Format
    bucketing: Bucketing | None
    """None when the file does not say."""

    has_metadata: bool
    warnings: tuple[Problem, ...]


def read_definitions(text: bytes, *, name: str, place: Place, lenient: bool = False) -> Definitions:
    """Read a file in our format or flagd's, JSON or YAML. Errors: InvalidDefinition with every problem."""
    data = parse_text(text, name=name)
    if is_flagd(data):
        project, environment = place.project or place.default_project, place.environment or place.default_environment
        read = read_flagd(data, project=project, environment=environment, lenient=lenient)
        return _definitions(data, read, Format.FLAGD)
    said: Mapping[str, Json] = data if isinstance(data, dict) else {}
    read = read_document(
        data,
        project=place.project or (None if "project" in said else place.default_project),
        environment=place.environment or (None if "environment" in said else place.default_environment),
        lenient=lenient,
    )
    return _definitions(data, read, Format.FLAGSTAFF)


def _definitions(data: Json, read: Read, format: Format) -> Definitions:
    bucketing = read.flag_set.environment.bucketing if format is Format.FLAGSTAFF and "bucketing" in data else None
    return Definitions(read.flag_set, format, bucketing, "metadata" in data, read.warnings)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an import treats what is stored already."""

    source: str | None = None
    """None leaves the environment's source as it is."""

    bucketing: Bucketing | None = None
    """None leaves it to the file, then to what is stored."""

    replace: bool = False
    """Remove the flags and segments, and the metadata, that the file does not have."""

    replace_variants: bool = False
    rerandomise: bool = False
    """Let salts and the attributes that are hashed become the file's, so that users may get other variants."""

    sync: bool | None = None
    """Whether in-process clients are sent the flags; None leaves it as it is, on for a new environment."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did or, when it was only tried, would do."""

    flag_set: str
    revision: int
    flags: Mapping[str, Sequence[str]]
    """Keys by what happened: created, updated, unchanged, removed."""

    segments: Mapping[str, Sequence[str]]
    environment: str
    """What happened to the environment: created, updated or unchanged."""

    elsewhere: Mapping[str, int]
    """Revisions of other environments that share a flag which changed."""

    bucketing_before: Bucketing | None
    """None unless flags were there and their bucketing changed."""

    moved: Mapping[str, int] = field(default_factory=dict)
    """When it changed: by flag, how many of SAMPLE_USERS get another variant."""

    waiting: tuple[str, ...] = ()
    """What else moves what it changed, or is about to: releases, schedules, launch plans."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What an import finds; keys only, so that a damaged flag can be mended by importing it again."""

    has_project: bool
    environment: Environment | None = None
    revision: int = 0
    flags: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()


def import_definitions(
    engine: Engine,
    definitions: Definitions,
    *,
    wanted: Wanted,
    actor: str,
    now: datetime,
    reason: str = "",
    dry_run: bool = False,
) -> Imported:
    """Bring an environment to what a file defines, in one commit; project and environment are created when absent.

    A dry run does all of it, tells what came of it, and takes it back. Errors: as `commit`.
    """
    place = definitions.flag_set.environment
    attempts = COMMIT_ATTEMPTS_MAX
    while True:
        stored = _find(engine, place)
        changes = _changes(definitions, stored, wanted)
        try:
            committed = commit(
                engine,
                project=place.project,
                environment=place.key,
                changes=changes,
                actor=actor,
                now=now,
                reason=reason,
                expected_revision=stored.revision,
                replace_variants=wanted.replace_variants,
                dry_run=dry_run,
            )
        except Stale:
            attempts -= 1
            if not attempts:
                raise
            continue
        elsewhere = committed.elsewhere
        imported = _imported(definitions, stored, committed.events, committed.revision, elsewhere=elsewhere)
        with reading(engine) as connection:
            waiting = touched(connection, place.project, {place.key: committed.events})
        imported = replace(imported, waiting=(*committed.warnings, *waiting))
        if imported.bucketing_before is None:
            return imported
        after, _ = read_stored(engine, project=place.project, environment=place.key)
        return _with_moved(imported, apply_all(after, changes)[0] if dry_run else after, now=now)


def try_import(definitions: Definitions, *, wanted: Wanted) -> Imported:
    """What an import into a database that is not there yet would do.

    Errors: InvalidDefinition, InvalidRequest, TooLarge.
    """
    stored = _Stored(has_project=False)
    after, events = apply_all(FlagSet(definitions.flag_set.environment), _changes(definitions, stored, wanted))
    errors = [problem for problem in check_flag_set(after) if not problem.warning]
    if errors:
        raise InvalidDefinition(errors)
    if after.environment.sync:
        check_sync_bytes(after.environment, sum(flag_bytes(after, key) for key in after.flags))
    return _imported(definitions, stored, events, int(bool(events)), elsewhere={})


def import_if_empty(engine: Engine, definitions: Definitions, *, actor: str, now: datetime, reason: str = "") -> bool:
    """Import into an environment that has no flags; False when it has some, which then stay as they are."""
    if _find(engine, definitions.flag_set.environment).flags:
        return False
    import_definitions(engine, definitions, wanted=Wanted(), actor=actor, now=now, reason=reason)
    return True


def _find(engine: Engine, place: Environment) -> _Stored:
    with reading(engine) as connection:
        has_project = any(project.key == place.project for project in list_projects(connection))
        if find_environment(connection, project=place.project, environment=place.key) is None:
            return _Stored(has_project)
        stored = load_documents(connection, project=place.project, environment=place.key)
        flags, segments = frozenset(stored.flags), frozenset(stored.segments)
        return _Stored(has_project, stored.environment, stored.revision, flags, segments)


def _changes(definitions: Definitions, stored: _Stored, wanted: Wanted) -> list[Change]:
    changes: list[Change] = []
    place = definitions.flag_set.environment
    bucketing = wanted.bucketing or definitions.bucketing
    if not stored.has_project:
        changes.append(CreateProject(place.project))
    if stored.environment is None:
        environment = replace(
            place, bucketing=bucketing or Bucketing.V2, source=wanted.source or "", sync=wanted.sync is not False
        )
        changes.append(CreateEnvironment(environment))
    else:
        keeps_metadata = not definitions.has_metadata and not wanted.replace
        metadata = None if keeps_metadata else place.metadata
        changes.append(
            UpdateEnvironment(bucketing=bucketing, metadata=metadata, source=wanted.source, sync=wanted.sync)
        )
    changes += [PutSegment(segment) for segment in definitions.flag_set.segments.values()]
    changes += [
        PutFlag(definition, rerandomise=wanted.rerandomise) for definition in definitions.flag_set.flags.values()
    ]
    if wanted.replace:
        changes += [RemoveFlag(key) for key in sorted(stored.flags - definitions.flag_set.flags.keys())]
        changes += [RemoveSegment(key) for key in sorted(stored.segments - definitions.flag_set.segments.keys())]
    return changes


def _imported(
    definitions: Definitions,
    stored: _Stored,
    events: Sequence[Event],
    revision: int,
    *,
    elsewhere: Mapping[str, int],
) -> Imported:
    flag_set = definitions.flag_set
    happened: dict[tuple[str, str], str] = {(event.kind, event.key): event.type.partition(".")[2] for event in events}
    updated = [event for event in events if isinstance(event, EnvironmentUpdated)]
    rebucketed = [event.before.bucketing for event in updated if event.before.bucketing != event.after.bucketing]
    return Imported(
        flag_set=flag_set.environment.flag_set,
        revision=revision,
        flags=_sorted(flag_set.flags, "flag", happened),
        segments=_sorted(flag_set.segments, "segment", happened),
        environment=happened.get(("environment", flag_set.environment.key), "unchanged"),
        elsewhere=elsewhere,
        bucketing_before=rebucketed[0] if rebucketed and stored.flags else None,
    )


def _with_moved(imported: Imported, after: FlagSet, *, now: datetime) -> Imported:
    before = imported.bucketing_before
    if before is None:
        return imported
    return replace(imported, moved=moved_users(after, before, now=int(now.timestamp())))


def _sorted(keys: Mapping[str, object], kind: str, happened: Mapping[tuple[str, str], str]) -> dict[str, Sequence[str]]:
    found: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": [], "removed": []}
    for key in keys:
        found[happened.get((kind, key), "unchanged")].append(key)
    found["removed"] = [key for (what, key), how in happened.items() if (what, how) == (kind, "removed")]
    return {how: tuple(sorted(names)) for how, names in found.items()}


def read_stored(engine: Engine, *, project: str, environment: str) -> tuple[FlagSet, int]:
    """A stored flag set and its revision. Errors: NotFound; InvalidDefinition when stored documents are damaged."""
    with reading(engine) as connection:
        stored = read_environment(connection, project=project, environment=environment)
        return read_flag_set(connection, project=project, environment=environment), stored.revision


def export_all(
    engine: Engine, *, project: str | None, format: Format, tell: Tell = _say_nothing
) -> dict[tuple[str, str], dict[str, Any]]:
    """Every environment of a project, or of all, as of one moment. Shapes: (project, environment) -> document.

    `tell` hears what the documents cannot have.

    Errors: as `read_stored`; NotFound when there is no environment.
    """
    documents: dict[tuple[str, str], dict[str, Any]] = {}
    with reading(engine) as connection:
        for stored in list_environments(connection):
            place = stored.environment
            if project in (None, place.project):
                flag_set = read_flag_set(connection, project=place.project, environment=place.key)
                documents[place.project, place.key] = _written(flag_set, format, tell)
    if not documents:
        raise NotFound("there is no environment to export" + (f" in project {project!r}" if project else ""))
    return documents


def export(
    engine: Engine, *, project: str, environment: str, format: Format, tell: Tell = _say_nothing
) -> dict[str, Any]:
    """A stored flag set as a document; `tell` hears what the document cannot have. Errors: as `read_stored`."""
    flag_set, _ = read_stored(engine, project=project, environment=environment)
    return _written(flag_set, format, tell)


def _written(flag_set: FlagSet, format: Format, tell: Tell) -> dict[str, Any]:
    if format is not Format.FLAGD:
        return write_document(flag_set)
    for (kind, key), large in sorted(left_out(flag_set).items()):
        named = ", ".join(sorted(large))
        tell(f"{kind} {key} of {flag_set.environment.flag_set} is left out: its keys are too many for flagd ({named})")
    return write_flagd(flag_set)
