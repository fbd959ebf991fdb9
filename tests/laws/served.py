"""Call the management services as a door does, bytes in and bytes out, over a real database, for state machines."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from server.core.access import Principal
from server.core.errors import Conflict, InvalidDefinition, InvalidRequest, NotFound, PermissionDenied, Refused
from server.operations.freezes import permit_unless_frozen
from server.rpc.table import Kind
from server.store.audit import list_entries, verify_chain
from server.store.engine import reading
from server.store.environments import list_environments
from server.store.flagsets import load_documents
from server.store.revisions import load_documents_at
from tests.fakes import FakeCall
from tests.rpc.managing import managing
from tests.store.definitions import database

REFUSALS: Final = (Conflict, InvalidDefinition, InvalidRequest, NotFound, PermissionDenied, Refused)
"""What a model means by refused: not that somebody was quicker, and not that the database is away."""


class Served:
    """The services over a database of their own."""

    def __init__(self, kind: str, *, shop: bool, people: Mapping[str, Principal] | None = None) -> None:
        self._stack = ExitStack()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.engine = self._stack.enter_context(database(Path(directory), kind, shop=shop))
        manager, self._table = self._stack.enter_context(managing(self.engine, policies=[permit_unless_frozen]))
        manager.people |= people or {}
        self._loop = asyncio.new_event_loop()
        self._stack.callback(self._loop.close)

    def close(self) -> None:
        """End it all."""
        self._stack.close()

    def call(self, path: str, reply: Any, *requests: Any, by: str = "") -> Any:
        """Call a method as somebody; only a method that reads a stream takes several requests. Errors: its own."""
        function = self._table[path].function
        call = FakeCall({"authorization": f"Bearer {by}"} if by else {})
        messages = [each.SerializeToString() for each in requests]
        if self._table[path].kind is Kind.BIDI:
            return reply.FromString(self._loop.run_until_complete(_only(function(_sent(messages), call))))
        return reply.FromString(self._loop.run_until_complete(function(messages[0], call)))

    def revisions(self) -> dict[tuple[str, str], int]:
        """(project, environment) -> its revision."""
        with reading(self.engine) as connection:
            stored = list_environments(connection)
        return {(each.environment.project, each.environment.key): each.revision for each in stored}

    def check_past(self, *projects: str) -> None:
        """Nobody touched the trails, and what the past says is what is there."""
        with reading(self.engine) as connection:
            for project in projects:
                assert [] == verify_chain(connection, project=project)
                sequences = [entry.sequence for entry in list_entries(connection, project=project, limit=10**6)]
                assert list(range(len(sequences), 0, -1)) == sequences
        for (project, name), revision in self.revisions().items():
            with reading(self.engine) as connection:
                current = load_documents(connection, project=project, environment=name)
                past = load_documents_at(connection, project=project, environment=name, revision=revision)
            assert (current.flags, current.segments) == (past.flags, past.segments)


async def _sent(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for each in messages:
        yield each


async def _only(replies: AsyncIterator[bytes]) -> bytes:
    (reply,) = [each async for each in replies]
    return reply
