"""Import and export flags as documents, for callers who may edit flags and not environments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag, RemoveSegment
from server.core.definitions.documents import write_document
from server.core.definitions.flagd import write_flagd
from server.core.errors import InvalidRequest, Stale
from server.operations.flagsets import COMMIT_ATTEMPTS_MAX, Definitions, Format, Place, read_definitions, read_stored
from server.operations.writes import Write, Writer, Written
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import StoredEnvironment, list_environments, read_environment
from server.store.flagsets import load_documents


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is to be imported, and how."""

    text: bytes
    name: str = "document"
    lenient: bool = False
    replace: bool = False
    """Remove what it does not have."""

    replace_variants: bool = False


@dataclass(frozen=True, slots=True)
class ImportedDocument:
    """What an import did."""

    format: Format
    flags: tuple[str, ...]
    """Keys of the document."""

    written: Written


@dataclass(frozen=True, slots=True)
class Exported:
    """An environment as a document."""

    environment: str
    revision: int
    text: bytes


def import_document(
    engine: Engine, writer: Writer, document: Document, write: Write, *, project: str, environment: str
) -> ImportedDocument:
    """Bring a document's flags and segments into an environment that exists, in one commit.

    What the document says of the environment itself is told as a warning and not taken over.

    Errors: InvalidDefinition with every problem; InvalidRequest for another place's document; as `Writer.write`.
    """
    definitions = read_definitions(
        document.text,
        name=document.name,
        place=Place(project, environment),
        lenient=document.lenient,
    )
    attempts = COMMIT_ATTEMPTS_MAX
    while True:
        stored, removals = _find(engine, definitions, project, environment, wanted=document.replace)
        part = Part(
            environment,
            [*_changes(definitions), *removals],
            expected_revision=stored.revision if document.replace and not write.request_id else None,
        )
        try:
            written = writer.write(project, [part], write, replace_variants=document.replace_variants)
        except Stale:
            # Others may commit between the look and the commit; what is not in the document is looked for again.
            attempts -= 1
            if not attempts or part.expected_revision is None:
                raise
            continue
        warnings = tuple(str(problem) for problem in definitions.warnings)
        told = replace(written, warnings=(*written.warnings, *warnings, *_passed_over(definitions, stored)))
        return ImportedDocument(definitions.format, tuple(definitions.flag_set.flags), told)


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


def _find(
    engine: Engine, definitions: Definitions, project: str, environment: str, *, wanted: bool
) -> tuple[StoredEnvironment, Sequence[Change]]:
    with reading(engine) as connection:
        stored = read_environment(connection, project=project, environment=environment)
        if not wanted:
            return stored, ()
        here = load_documents(connection, project=project, environment=environment)
    ours = definitions.flag_set
    removals: list[Change] = [RemoveFlag(key) for key in sorted(here.flags.keys() - ours.flags.keys())]
    removals += [RemoveSegment(key) for key in sorted(here.segments.keys() - ours.segments.keys())]
    return stored, removals


def _changes(definitions: Definitions) -> list[Change]:
    changes: list[Change] = [PutSegment(segment) for segment in definitions.flag_set.segments.values()]
    changes += [PutFlag(definition) for definition in definitions.flag_set.flags.values()]
    return changes


def _passed_over(definitions: Definitions, stored: StoredEnvironment) -> list[str]:
    told = []
    here, given = stored.environment, definitions.flag_set.environment
    if definitions.bucketing is not None and definitions.bucketing is not here.bucketing:
        told.append(f"the document's bucketing {definitions.bucketing.value} is not taken over: update the environment")
    if definitions.has_metadata and given.metadata != here.metadata:
        told.append("the document's metadata of the flag set is not taken over: update the environment")
    return told
