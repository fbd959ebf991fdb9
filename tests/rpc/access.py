"""Make tokens of every kind, and ask a table as their owners do."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from server.core.access import OPEN, Action, Asking, Grant, Scope
from server.core.methods import ACTIONS
from server.core.tokens import kind_of, token_text
from server.live.callers import Callers
from server.live.holder import Holder
from server.live.sessions import Sessions
from server.operations.gate import Gate
from server.operations.identity import Identity
from server.operations.tokens import SERVER, Minted, NewToken, Tokens
from server.operations.writes import Write
from server.rpc.access import guarded
from server.rpc.table import Handler, Kind, Table, bidi, server_stream, unary_async, unary_sync
from tests.fakes import FakeCall, holder_of, snapshot_of
from tests.store.definitions import new_engine, new_shop

SECRET: Final = b"a secret key of the server's tests"
REACHED: Final = b"reached"
SETS: Final = ("default/production", "shop/production", "shop/staging", "bank/production")


def asked_at(days: float = 0) -> datetime:
    """Now, or so many days from now."""
    return datetime.now(UTC) + timedelta(days=days)


def as_admin(**options: Any) -> Write:
    """How whoever has the database asks for something."""
    return Write(OPEN, Action.ADMINISTER, **{"now": asked_at(), **options})


@dataclass
class House:
    """A database with tokens, and a gate that knows them."""

    tokens: Tokens
    callers: Callers
    holder: Holder
    sessions: Sessions

    def token(self, *grants: Grant, home: Scope = SERVER, **options: Any) -> Minted:
        """A new token that the gate knows already."""
        minted = self.tokens.create(NewToken("test", grants, home, **options), as_admin())
        self.callers.look()
        return minted

    def expired(self, *grants: Grant) -> Minted:
        """One that was good until a moment ago."""
        wanted = NewToken("test", grants, Scope(), asked_at(-1))
        minted = self.tokens.create(wanted, as_admin(now=asked_at(-2)))
        self.callers.look()
        return minted

    def revoked(self, *grants: Grant) -> Minted:
        """One that was revoked."""
        minted = self.token(*grants)
        self.tokens.revoke(minted.token.id, Scope(), as_admin())
        self.callers.look()
        return minted

    def unknown(self, *grants: Grant) -> str:
        """The text of one that was never made here."""
        minted = self.token(*grants)
        return token_text(kind_of(grants), minted.token.id, secret=bytes(32))

    def gate(self, asking: Asking = Asking.EVERYONE, **options: Any) -> Gate:
        """What decides."""
        return Gate(Identity(self.callers, asking, **options), self.holder, self.sessions)

    def table(self, asking: Asking = Asking.EVERYONE, **options: Any) -> Table:
        """Every method there is, guarded, with nothing behind it."""
        return guarded(hollow(), self.gate(asking, **options))


def new_house(directory: Path, *, with_shop: bool = False) -> Iterator[House]:
    """A house whose database ends with the test."""
    engine = new_shop(directory) if with_shop else new_engine(directory)
    holder = holder_of(*(snapshot_of(flag_set=name) for name in SETS), aliases={("source", "old"): "shop/staging"})
    sessions = Sessions()
    callers = Callers(engine, lambda: SECRET, changed=sessions.check)
    callers.look()
    yield House(Tokens(engine, lambda: SECRET), callers, holder, sessions)
    engine.dispose()


def hollow() -> dict[str, Handler]:
    """A handler of the right kind for every method, which only says that it was reached."""
    return {path: _hollow(_kind_of(path)) for path in ACTIONS}


def _kind_of(path: str) -> Kind:
    method = path.rpartition("/")[2]
    if method in ("Watch", "EventStream", "SyncFlags"):
        return Kind.SERVER_STREAM
    if method in ("EvaluateStream", "ServerReflectionInfo"):
        return Kind.BIDI
    return Kind.UNARY_ASYNC if method == "EvaluateBatch" or "flagstaff" in path else Kind.UNARY_SYNC


def _hollow(kind: Kind) -> Handler:
    async def answer(raw: bytes, call: Any) -> bytes:
        return REACHED

    async def stream(raw: bytes, call: Any) -> AsyncIterator[bytes]:
        yield REACHED

    async def exchange(messages: AsyncIterator[bytes], call: Any) -> AsyncIterator[bytes]:
        async for _ in messages:
            yield REACHED

    match kind:
        case Kind.UNARY_SYNC:
            return unary_sync(lambda raw, call: REACHED)
        case Kind.UNARY_ASYNC:
            return unary_async(answer)
        case Kind.SERVER_STREAM:
            return server_stream(stream)
        case Kind.BIDI:
            return bidi(exchange)


async def ask(handler: Handler, call: FakeCall, *messages: bytes) -> Sequence[bytes]:
    """Call a handler of any kind; its replies. Errors: whatever it raises."""

    async def sent() -> AsyncIterator[bytes]:
        for each in messages or (b"",):
            yield each

    raw = messages[0] if messages else b""
    match handler.kind:
        case Kind.UNARY_SYNC:
            return [handler.function(raw, call)]
        case Kind.UNARY_ASYNC:
            return [await handler.function(raw, call)]
        case Kind.SERVER_STREAM:
            return [reply async for reply in handler.function(raw, call)]
        case Kind.BIDI:
            return [reply async for reply in handler.function(sent(), call)]


def by(text: str, **sent: str) -> FakeCall:
    """A call with a token."""
    return FakeCall({"authorization": f"Bearer {text}", **sent})
