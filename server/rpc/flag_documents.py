"""Translate imports of documents between messages and operations."""

from collections.abc import Mapping
from typing import Any, Final

from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.errors import InvalidRequest
from server.core.events import Event
from server.operations.flag_documents import Document, Imported, ImportedDocument, Manner
from server.operations.flagsets import Format
from server.rpc.management import change_lines, result_of

FORMATS: Final[Mapping[int, Format]] = {
    0: Format.FLAGSTAFF,
    **{messages.DocumentFormat.Value(f"DOCUMENT_FORMAT_{each.name}"): each for each in Format},
}
_NUMBERS: Final[Mapping[Format, Any]] = {value: number for number, value in FORMATS.items()}


def read_documents(request: messages.ImportFlagsRequest) -> list[Document]:
    """The documents of a request, its own environment's first. Errors: InvalidRequest when a place is not named."""
    documents = [Document(request.environment, request.document, request.name or "document")]
    for number, other in enumerate(request.others):
        if not other.environment or not other.document:
            raise InvalidRequest(f"others[{number}] needs an environment and a document")
        documents.append(Document(other.environment, other.document, other.name or other.environment))
    return documents


def read_manner(request: messages.ImportFlagsRequest) -> Manner:
    """How they are to be imported."""
    return Manner(request.lenient, request.replace, request.replace_variants)


def imported_reply(done: Imported) -> messages.ImportFlagsResponse:
    """What an import did."""
    environments = [_environment(each, done.written.events.get(each.environment, ())) for each in done.documents]
    first = environments[0]
    return messages.ImportFlagsResponse(
        format=first.format,
        created=first.created,
        updated=first.updated,
        removed=first.removed,
        unchanged=first.unchanged,
        environments=environments,
        result=result_of(done.written),
    )


def _environment(document: ImportedDocument, events: tuple[Event, ...]) -> messages.ImportedEnvironment:
    happened = {event.key: event.type for event in events if event.kind == "flag"}

    def of(event_type: str) -> list[str]:
        return sorted(key for key, happening in happened.items() if happening == event_type)

    return messages.ImportedEnvironment(
        environment=document.environment,
        format=_NUMBERS[document.format],
        created=of("flag.created"),
        updated=of("flag.updated"),
        removed=of("flag.removed"),
        unchanged=sum(key not in happened for key in document.flags),
        changes=change_lines(events),
    )
