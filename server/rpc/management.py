"""Build the handlers of management services: decode, ask access, run the operation beside the loop, encode.

An operation waits for the database, so it runs in a thread of a bounded pool and never on the event loop, which
belongs to evaluations.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from protos.flagstaff.v1 import common_pb2 as common
from server.core.access import Action, Principal, Scope
from server.core.descriptions.differences import describe_event
from server.core.errors import InvalidRequest
from server.core.events import Event
from server.core.methods import action_of
from server.operations.writes import Outcome, Write, Written, require, require_within
from server.rpc.call import Call
from server.rpc.table import Table, UnaryAsync, unary_async

THREADS_MAX: Final = 8
"""Operations that run at once; further ones wait in order."""

LINES_MAX: Final = 1_000
"""Differences that a reply names; an import may make more than a message holds."""

T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Read: TypeAlias = Callable[[Any, Principal], Message]
"""(request, who asks) -> reply."""

Change: TypeAlias = Callable[[Any, Write], Message]
"""(request, how it is asked for) -> reply; the request has a field `options`."""

OUTCOMES: Final = {each: common.Outcome.Value(f"OUTCOME_{each.name}") for each in Outcome}


PROPOSABLE: Final = frozenset(
    f"flagstaff.v1.{noun}Service" for noun in ("Flag", "Segment", "Project", "Environment", "History")
)
"""Services whose writes all go through `Writer`, so that they can be tried before they are made."""


@dataclass(frozen=True, slots=True)
class Proposable:
    """How a write request that came inside another request is made."""

    path: str
    request: type[Message]
    function: Change


@dataclass(frozen=True, slots=True)
class Management:
    """What all management services share. Units: clock gives aware instants."""

    clock: Callable[[], datetime]
    threads: ThreadPoolExecutor
    proposable: dict[str, Proposable] = field(default_factory=dict)
    """Full name of a request -> how it is made; filled by `writes`."""

    def reads(
        self, service: str, methods: Mapping[str, tuple[type[Message], Read]], *, ask_access: bool = True
    ) -> Table:
        """Handlers of methods that change nothing; without `ask_access` the functions ask where in the project."""
        return {
            f"/{service}/{name}": unary_async(self._read(f"/{service}/{name}", request, function, ask_access))
            for name, (request, function) in methods.items()
        }

    def writes(self, service: str, methods: Mapping[str, tuple[type[Message], Change]]) -> Table:
        """Handlers of methods that change something; whether the caller may is asked again where it is written."""
        if service in PROPOSABLE:
            for name, (request, function) in methods.items():
                self.proposable[request.DESCRIPTOR.full_name] = Proposable(f"/{service}/{name}", request, function)
        return {
            f"/{service}/{name}": unary_async(self._write(f"/{service}/{name}", request, function))
            for name, (request, function) in methods.items()
        }

    def _read(self, path: str, request_type: type[Message], function: Read, ask_access: bool) -> UnaryAsync:
        action = action_of(path)

        async def handle(raw: bytes, call: Call) -> bytes:
            request = parse(request_type, raw)
            principal = call.principal
            scope = scope_of(request)
            if ask_access or not scope.project:
                require(principal, action, scope)
            else:
                require_within(principal, action, scope.project)
            return await self.run(lambda: function(request, principal).SerializeToString())

        return handle

    def _write(self, path: str, request_type: type[Message], function: Change) -> UnaryAsync:
        action = action_of(path)

        async def handle(raw: bytes, call: Call) -> bytes:
            request: Any = parse(request_type, raw)
            scope = scope_of(request)
            # A write to a whole project names no environment: each that it reaches is asked about where it is written.
            if scope.environment or not scope.project or not call.principal.may_within(action, scope.project):
                require(call.principal, action, scope)
            else:
                require_within(call.principal, action, scope.project)
            write = self.asked(path, request, call.principal)
            return await self.run(lambda: function(request, write).SerializeToString())

        return handle

    def asked(self, path: str, request: Any, principal: Principal) -> Write:
        """How a request asks for its write."""
        return write_of(request.options, principal, action=action_of(path), now=self.clock())

    async def run(self, operation: Callable[[], T]) -> T:
        """Run an operation beside the loop, which knows what the caller knows of its cause."""
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: context.run(operation))


def parse(request_type: type[Request], raw: bytes) -> Request:
    """Decode a request. Errors: InvalidRequest when it is malformed or its text is not UTF-8."""
    try:
        return request_type.FromString(raw)
    except DecodeError:
        raise InvalidRequest(f"the message is not a {request_type.DESCRIPTOR.full_name}") from None


def scope_of(request: Message) -> Scope:
    """Where a request reads or writes, by its fields of these names."""
    names = request.DESCRIPTOR.fields_by_name
    given: Any = request
    return Scope(
        given.project if "project" in names else "",
        given.environment if "environment" in names else "",
    )


def write_of(options: common.WriteOptions, principal: Principal, *, action: Action, now: datetime) -> Write:
    """How a write is asked for."""
    return Write(
        principal=principal,
        action=action,
        now=now,
        request_id=options.request_id,
        dry_run=options.dry_run,
        reason=options.reason,
        cause=options.cause,
        expected_version=options.expected_version or None,
        bypass_approval=options.bypass_approval,
    )


def named(request: Any, *fields: str) -> None:
    """Refuse a request that leaves out what it is about. Errors: InvalidRequest."""
    missing = [name for name in fields if not getattr(request, name)]
    if missing:
        raise InvalidRequest(f"{request.DESCRIPTOR.name} needs {', '.join(missing)}")


def change_lines(events: Iterable[Event]) -> list[str]:
    """What happened, as lines that can stand alone; of very many, the first and how many more there are."""
    lines = [line for event in events for line in describe_event(event)]
    more = [f"and {len(lines) - LINES_MAX} more"] if len(lines) > LINES_MAX else []
    return [*lines[:LINES_MAX], *more]


def result_of(written: Written) -> common.WriteResult:
    """What became of a write, as its reply tells it."""
    return common.WriteResult(
        outcome=OUTCOMES[written.outcome],
        revisions=written.revisions,
        changes=_lines_by_place(written),
        warnings=written.warnings,
        change_request=written.change_request,
    )


def _lines_by_place(written: Written) -> list[str]:
    """What differs; where more than one environment was written to, each line says which."""
    places = {name: events for name, events in written.events.items() if events}
    if len(places) < 2:
        return change_lines(event for events in places.values() for event in events)
    return [f"{name or 'project'}: {line}" for name, events in places.items() for line in change_lines(events)]
