"""Find out who calls: by a token, by a certificate, or as a stranger where strangers are allowed something."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, Protocol

from server.core.access import STRANGERS, Action, Asking, Grant, Principal
from server.core.errors import InvalidRequest, StoreUnavailable, Unauthenticated, Unrecognised
from server.core.tokens import is_token_like, read_id
from server.live.callers import Book, Caller

BEARER: Final = "bearer "
TOKEN_CHARS_MAX: Final = 8 * 1024
LOOK_S: Final = 1.0
"""How long a call waits for a look at the database because of a token that is not known."""

IN_VAIN_S: Final = 1.0
"""For how long a token that was looked for in vain is refused without another look."""

IN_VAIN_MAX: Final = 10_000

_HOW: Final = "send `authorization: Bearer TOKEN`; `flagstaff token create` makes one"


class Known(Protocol):
    """The tokens that are known, as server/live/callers.py has them."""

    book: Book
    loaded: bool

    def ask(self) -> "Future[None] | None":
        """Read the database now; None when nobody does. Errors: its exception is StoreUnavailable."""
        ...


class Foreign(Protocol):
    """Tokens that somebody else issues."""

    def caller(self, text: str, now: float) -> Caller:
        """Who such a token stands for. Errors: Unauthenticated, StoreUnavailable while that cannot be told yet."""
        ...


class Identity:
    """Tells who calls, without waiting for anything."""

    def __init__(
        self,
        known: Known,
        asking: Asking,
        *,
        foreign: Foreign | None = None,
        certificates: Mapping[str, Sequence[Grant]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Shapes: certificates is a client certificate's name -> what its owner may do. Units: clock gives seconds."""
        self._known, self._foreign, self._clock = known, foreign, clock
        self._in_vain: dict[bytes, float] = {}
        """Marks of tokens that were looked for in vain -> until when they are refused at once; the oldest first."""

        stranger = STRANGERS[asking]
        self._is_open = asking is Asking.NOBODY
        self.stranger = None if stranger is None else Caller(stranger)
        self._certificates = {
            name: Caller(Principal(f"certificate:{name}", tuple(grants)))
            for name, grants in (certificates or {}).items()
        }

    @property
    def knows_certificates(self) -> bool:
        """Whether some client certificates stand for somebody."""
        return bool(self._certificates)

    def needs_no_look(self, action: Action) -> bool:
        """Whether everyone may do something, so that nobody need be recognised for it."""
        return self.stranger is not None and action in self.stranger.everywhere

    def caller(self, authorization: str | None, names: Callable[[], Sequence[str]] = tuple) -> Caller:
        """Who calls, by the header `authorization` or, without one, by the names in a client's certificate.

        Errors: Unauthenticated; Unrecognised when a look at the database may help; StoreUnavailable while it cannot be
        told.
        """
        if authorization:
            return self._by_token(authorization)
        for name in names() if self._certificates else ():
            if name in self._certificates:
                return self._certificates[name]
        if self.stranger is None:
            raise Unauthenticated(f"this server asks everyone for a token: {_HOW}")
        return self.stranger

    async def look(self, unknown: Unrecognised) -> bool:
        """Have the database looked at for a token; False when it was already, a moment ago, or nobody looks.

        Errors: StoreUnavailable when the database does not say in time.
        """
        now = self._clock()
        if now < self._in_vain.get(unknown.mark, 0.0):
            return False
        asked = self._known.ask()
        if asked is None:
            return False
        try:
            async with asyncio.timeout(LOOK_S):
                await asyncio.wrap_future(asked)
        except TimeoutError:
            raise StoreUnavailable(
                "the database has not said whether the token is good; try again in a moment"
            ) from None
        return True

    def note_in_vain(self, unknown: Unrecognised) -> None:
        """Do not look for this token again for a while."""
        if len(self._in_vain) >= IN_VAIN_MAX:
            self._in_vain.pop(next(iter(self._in_vain)))
        self._in_vain.pop(unknown.mark, None)
        self._in_vain[unknown.mark] = self._clock() + IN_VAIN_S

    def _by_token(self, authorization: str) -> Caller:
        now = self._clock()
        # The scheme is compared without regard to case, as HTTP has it.
        text = authorization[len(BEARER) :].strip() if authorization[: len(BEARER)].lower() == BEARER else ""
        if not is_token_like(text):
            return self._by_other(text, now)
        caller = self._known.book.find(text)
        if caller is None:
            raise self._unknown(text)
        problem = caller.problem(now)
        if problem:
            raise Unauthenticated(f"{problem}; use another one")
        caller.used_at = now
        return caller

    def _by_other(self, text: str, now: float) -> Caller:
        if self._foreign is not None and text and len(text) <= TOKEN_CHARS_MAX:
            return self._foreign.caller(text, now)
        if self._is_open and self.stranger is not None:
            # Credentials for somebody else, such as a proxy in between.
            return self.stranger
        raise Unauthenticated(f"the header `authorization` holds no token that this server knows: {_HOW}")

    def _unknown(self, text: str) -> Exception:
        if not self._known.loaded:
            return StoreUnavailable("tokens have not been loaded yet; ask again in a moment")
        try:
            identifier = read_id(text[:TOKEN_CHARS_MAX])
        except InvalidRequest as error:
            return Unauthenticated(str(error))
        return Unrecognised(
            f"token {identifier} is not known here; it may have been made for another server",
            hashlib.sha256(text.encode()).digest(),
        )
