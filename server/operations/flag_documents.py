"""Import and export flags as documents, for callers who may edit flags and not environments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag, RemoveSegment
from server.core.definitions.documents import write_document
from server.core.definitions.flagd import write_flagd
from server.core.environments import Environment
from server.core.errors import InvalidDefinition, InvalidRequest, Problem, Stale
from server.core.flags import FlagDefinition
from server.core.json import Json
from server.operations.flagsets import COMMIT_ATTEMPTS_MAX, Definitions, Format, Place, read_definitions, read_stored
from server.operations.writes import Write, Writer, Written
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import list_environments, read_environment
from server.store.flagsets import load_documents


@dataclass(frozen=True, slots=True)
class Document:
    """A document that an environment is to be brought to."""

    environment: str
    text: bytes
    name: str = "document"


@dataclass(frozen=True, slots=True)
class Manner:
    """How documents are imported."""

    lenient: bool = False
    replace: bool = False
    """Remove what they do not have."""

    replace_variants: bool = False


@dataclass(frozen=True, slots=True)
class ImportedDocument:
    """One of the documents that were imported."""

    environment: str
    format: Format
    flags: tuple[str, ...]
    """Keys of the document."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    documents: tuple[ImportedDocument, ...]
    written: Written


@dataclass(frozen=True, slots=True)
class Exported:
    """An environment as a document."""

    environment: str
    revision: int
    text: bytes


def import_documents(
    engine: Engine, writer: Writer, documents: Sequence[Document], write: Write, *, project: str, manner: Manner
) -> Imported:
    """Bring environments that exist to the flags and segments of documents, in one commit.

    What a document says of the environment itself is told as a warning and not taken over.

    Errors: InvalidDefinition with every problem; InvalidRequest for another place's document, or for two of one place;
    as `Writer.write`.
    """
    read = _read(documents, project, lenient=manner.lenient)
    attempts = COMMIT_ATTEMPTS_MAX
    while True:
        found = {name: _find(engine, project, name, whole=manner.replace or len(read) > 1) for name in read}
        parts = _parts(read, found, replaces=manner.replace, fixed=manner.replace and not write.request_id)
        try:
            written = writer.write(project, parts, write, replace_variants=manner.replace_variants)
        except Stale:
            # Others may commit between the look and the commit; what is not in a document is looked for again.
            attempts -= 1
            if not attempts or all(part.expected_revision is None for part in parts):
                raise
            continue
        warnings = [
            f"{name}: {line}" if len(read) > 1 else line
            for name, definitions in read.items()
            for line in (*map(str, definitions.warnings), *_passed_over(definitions, found[name].environment))
        ]
        told = replace(written, warnings=(*written.warnings, *warnings))
        return Imported(
            tuple(ImportedDocument(name, each.format, tuple(each.flag_set.flags)) for name, each in read.items()), told
        )


def export_documents(engine: Engine, *, project: str, environment: str, format: Format) -> list[Exported]:
    """One environment as a document, or all of a project. Errors: as `read_stored`; NotFound."""
    with reading(engine) as connection:
        if environment:
            places = [read_environment(connection, project=project, environment=environment)]
        else:
            places = [each for each in list_environments(connection) if each.environment.project == project]
    if not places:
        raise InvalidRequest(f"project {project!r} has no environment that could be exported")
    exported = []
    for place in places:
        flag_set, revision = read_stored(engine, project=project, environment=place.environment.key)
        document = write_flagd(flag_set) if format is Format.FLAGD else write_document(flag_set)
        text = json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
        exported.append(Exported(place.environment.key, revision, text))
    return exported


def _read(documents: Sequence[Document], project: str, *, lenient: bool) -> dict[str, Definitions]:
    """Environment -> what its document defines. Errors: as `import_documents`."""
    problems: list[Problem] = []
    read: dict[str, Definitions] = {}
    for each in documents:
        if each.environment in read:
            raise InvalidRequest(f"there are two documents for environment {each.environment!r}; send one")
        place = Place(project, each.environment)
        try:
            read[each.environment] = read_definitions(each.text, name=each.name, place=place, lenient=lenient)
        except InvalidDefinition as error:
            named = f"{each.name} " if len(documents) > 1 else ""
            problems += (replace(problem, path=f"{named}{problem.path}".rstrip()) for problem in error.problems)
    if problems:
        raise InvalidDefinition(problems)
    return read


@dataclass(frozen=True, slots=True)
class _Found:
    environment: Environment
    revision: int
    flags: Mapping[str, Mapping[str, Json] | None]
    segments: frozenset[str]


def _find(engine: Engine, project: str, environment: str, *, whole: bool) -> _Found:
    with reading(engine) as connection:
        stored = read_environment(connection, project=project, environment=environment)
        if not whole:
            return _Found(stored.environment, stored.revision, {}, frozenset())
        here = load_documents(connection, project=project, environment=environment)
    return _Found(here.environment, here.revision, here.flags, frozenset(here.segments))


def _parts(read: Mapping[str, Definitions], found: Mapping[str, _Found], *, replaces: bool, fixed: bool) -> list[Part]:
    """A part for each environment; those that lose flags first, for these may serve what the others drop."""
    removals = {name: _removals(read[name], found[name]) if replaces else [] for name in read}
    names = sorted(read, key=lambda name: not removals[name])
    last = {key: name for name in names for key in read[name].flag_set.flags}
    return [
        Part(
            name,
            [
                *(PutSegment(segment) for segment in read[name].flag_set.segments.values()),
                *(
                    PutFlag(each if last[key] == name else _with_dropped(each, found[name].flags.get(key)))
                    for key, each in read[name].flag_set.flags.items()
                ),
                *removals[name],
            ],
            expected_revision=found[name].revision if fixed else None,
        )
        for name in names
    ]


def _with_dropped(definition: FlagDefinition, stored: Mapping[str, Json] | None) -> FlagDefinition:
    """A flag with the variants that its document has dropped: they go when no environment serves them any more."""
    had = (stored or {}).get("variants")
    given = definition.flag.variants
    dropped = {name: value for name, value in had.items() if name not in given} if isinstance(had, dict) else {}
    return replace(definition, flag=replace(definition.flag, variants={**given, **dropped})) if dropped else definition


def _removals(definitions: Definitions, found: _Found) -> list[Change]:
    ours = definitions.flag_set
    removals: list[Change] = [RemoveFlag(key) for key in sorted(found.flags.keys() - ours.flags.keys())]
    return [*removals, *(RemoveSegment(key) for key in sorted(found.segments - ours.segments.keys()))]


def _passed_over(definitions: Definitions, here: Environment) -> list[str]:
    told = []
    given = definitions.flag_set.environment
    if definitions.bucketing is not None and definitions.bucketing is not here.bucketing:
        told.append(f"the document's bucketing {definitions.bucketing.value} is not taken over: update the environment")
    if definitions.has_metadata and given.metadata != here.metadata:
        told.append("the document's metadata of the flag set is not taken over: update the environment")
    return told
