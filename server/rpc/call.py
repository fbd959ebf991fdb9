"""Describe one call to a handler, and the ways in which a handler may refuse it."""

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from server.core.access import Principal
from server.core.errors import FlagstaffError
from server.operations.requests import where_raised
from server.rpc.details import details_of
from server.rpc.status import STATUS_BY_CODE, Status

_LOG: Final = logging.getLogger(__name__)

MESSAGE_CHARS_MAX: Final = 1_000
"""Length of a status message. It travels as a header, and clients accept 8 KiB of those in all."""

MetadataEntry: TypeAlias = tuple[str, str | bytes]
"""Name in lower case and value; bytes for a name that ends in `-bin`, else printable ASCII."""


class Call(Protocol):
    """What a handler may know about the call beside its message. Everything is looked up when it is asked for."""

    principal: Principal
    """Who calls; `server.core.access.OPEN` where nobody is asked. rpc/access.py sets it."""

    @property
    def initial_metadata(self) -> list[MetadataEntry]:
        """Metadata to send before the first reply; append to it."""
        ...

    @property
    def trailing_metadata(self) -> list[MetadataEntry]:
        """Metadata to send with the status; append to it."""
        ...

    @property
    def peer(self) -> str:
        """The client's address, as the transport writes it."""
        ...

    def certificate_names(self) -> Sequence[str]:
        """The names in the certificate by which the client has proved itself; none when it was not asked for one."""
        ...

    def metadata(self, name: str) -> str | None:
        """The text that the client sent under a name in lower case; None when it sent none, or bytes."""
        ...

    def metadata_values(self, name: str) -> Sequence[str]:
        """All texts that the client sent under a name, in their order."""
        ...

    def deadline_s(self) -> float | None:
        """Seconds that the client will still wait; None when it set no deadline."""
        ...


class Abort(Exception):
    """End the call with a status other than OK.

    Shapes: details is an encoded google.rpc.Status (empty: none); trailing is sent with the status; request_id is the
    one under which it was logged already.
    """

    def __init__(
        self,
        code: Status,
        message: str,
        details: bytes = b"",
        trailing: Sequence[MetadataEntry] = (),
        *,
        request_id: str = "",
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message if len(message) <= MESSAGE_CHARS_MAX else message[: MESSAGE_CHARS_MAX - 3] + "..."
        self.details = details
        self.trailing = tuple(trailing)
        self.request_id = request_id


def new_request_id() -> str:
    """Name one failed request, so that its caller and the log can be brought together."""
    return secrets.token_hex(8)


class OrderlyEnd(Abort):
    """End a stream that has done nothing wrong, with a status that brings its client back; nobody's failure."""


def abort_for(error: Exception, path: str, *, request_id: Callable[[], str] = new_request_id) -> Abort:
    """The status for whatever a handler raised; every door ends a failed call through here.

    What was not expected becomes INTERNAL with an id, logged once under the same id. Never UNKNOWN: flagd's
    providers retry UNKNOWN, and a fault of ours does not go away by asking again.
    """
    if isinstance(error, Abort):
        return error
    if isinstance(error, FlagstaffError):
        code, message = STATUS_BY_CODE[error.code], str(error)
        return Abort(code, message, details_of(error, code, message[:MESSAGE_CHARS_MAX]))
    identifier = request_id()
    _LOG.error("%s failed, request %s", path, identifier, extra={"raised": where_raised(error)})
    return Abort(Status.INTERNAL, f"internal error, request {identifier}; the server's log says more under this id")
