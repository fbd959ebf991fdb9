"""Ask other services' handlers from inside the server, in the name of whoever has an action done."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.flagstaff.v1 import common_pb2 as common
from server.core.access import Principal
from server.core.errors import Conflict, FlagstaffError, InvalidRequest, NotFound, Refused, StoreUnavailable
from server.core.json import Json
from server.rpc.call import Abort, MetadataEntry
from server.rpc.status import Status
from server.rpc.table import Kind, Table

_ERRORS: Final[Mapping[Status, type[FlagstaffError]]] = {
    Status.NOT_FOUND: NotFound,
    Status.ALREADY_EXISTS: Conflict,
    Status.FAILED_PRECONDITION: Refused,
    Status.UNAVAILABLE: StoreUnavailable,
}


@dataclass(slots=True)
class InnerCall:
    """A call that came over no wire."""

    principal: Principal
    initial_metadata: list[MetadataEntry] = field(default_factory=list)
    trailing_metadata: list[MetadataEntry] = field(default_factory=list)
    peer: str = ""

    def certificate_names(self) -> Sequence[str]:
        """None: who it is was found out before."""
        return ()

    def metadata(self, _name: str) -> str | None:
        """None was sent."""
        return None

    def metadata_values(self, _name: str) -> Sequence[str]:
        """None were sent."""
        return ()

    def deadline_s(self) -> float | None:
        """Whoever waits is waited for outside."""
        return None


@dataclass(frozen=True, slots=True)
class Request:
    """What an action comes to: a request, and the method that takes it."""

    method: str
    """`FlagService/EnableFlags`."""

    message: Message

    @property
    def path(self) -> str:
        """As the table has it."""
        return f"/flagstaff.v1.{self.method}"


@dataclass(frozen=True, slots=True)
class Doing:
    """One action that is being done: what it was given, and the services that it may ask."""

    table: Table
    principal: Principal
    given: Mapping[str, Json]
    """As read_inputs checked it, with project and environment."""

    wanted: common.WriteOptions

    @property
    def project(self) -> str:
        """Where."""
        return str(self.given["project"])

    @property
    def environment(self) -> str:
        """Where; "" where none was named."""
        return str(self.given.get("environment", ""))

    def options(self, **others: Any) -> common.WriteOptions:
        """How its write is asked for; `others` where something of it is otherwise."""
        options = common.WriteOptions()
        options.CopyFrom(self.wanted)
        for name, value in others.items():
            setattr(options, name, value)
        return options

    async def ask(self, request: Request) -> Any:
        """A method's reply. Errors: whatever its handler refuses with."""
        handler = self.table[request.path]
        raw, call = request.message.SerializeToString(), InnerCall(self.principal)
        try:
            match handler.kind:
                case Kind.UNARY_SYNC:
                    reply = handler.function(raw, call)
                case Kind.UNARY_ASYNC:
                    reply = await handler.function(raw, call)
                case _:
                    reply = await anext(aiter(handler.function(_one(raw), call)))
        except Abort as abort:
            raise _ERRORS.get(abort.code, InvalidRequest)(abort.message) from None
        return _reply_type(request).FromString(reply)


async def _one(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


def _reply_type(request: Request) -> Any:
    service, _, method = request.method.partition("/")
    found: Any = request.message.DESCRIPTOR.file.services_by_name[service]
    return GetMessageClass(found.methods_by_name[method].output_type)


def plain(message: Message) -> dict[str, Json]:
    """A message as plain JSON, by the names of its fields."""
    return MessageToDict(message, preserving_proto_field_name=True)
