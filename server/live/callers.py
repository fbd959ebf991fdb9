"""Hold what is known of callers: the tokens of the database, loaded beforehand, so that no call waits to be recognised.

A thread looks for changes of tokens and brings them in, and notes from time to time when each token was last used. Who
meets a token that is not known asks it to look at once. When the database is gone, the tokens that were loaded stay
good for as long as they say themselves.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Final

from sqlalchemy import Engine

from server.core.access import Action, Principal, Scope
from server.core.errors import FlagstaffError, StoreUnavailable
from server.core.tokens import derived_key, key_name, token_digest
from server.live.kept_tokens import KeptTokens
from server.store.engine import is_there, reading, shown, writing
from server.store.schema import is_newest
from server.store.tokens import StoredToken, fingerprint, load_tokens, note_used

POLL_S: Final = 0.5
"""How often the tokens are looked at: a revoked one ends within this time and a second."""

APART_S: Final = 0.05
"""Between two looks at least: however many unknown tokens come, the database is asked twenty times a second."""

ASKING_MAX: Final = 1_000
"""Calls that wait for a look at once."""

NOTE_EVERY_S: Final = 60.0
"""How often it is written when tokens were last used."""

ENDED_TOLD: Final = timedelta(days=30)
"""Who uses a token that ended within this time is told so; afterwards it is unknown."""

TOKEN_ACTOR: Final = "token:"
"""How the audit trail names whoever calls with a token, before the token's id."""

KEY_PURPOSE: Final = "tokens"

log = logging.getLogger("flagstaff.access")


@dataclass(slots=True, eq=False)
class Caller:
    """Someone whose credentials were checked. There is one for each token, as long as the process lives."""

    principal: Principal
    expires_at: float = inf
    """Seconds since 1970, from which on the credentials are not good any more."""

    ended: str = ""
    """Why they are not good any more, whatever the time is."""

    used_at: float = 0.0
    everywhere: frozenset[Action] = field(init=False)
    """What may be done in every place, so that most calls need not look where they go."""

    somewhere: frozenset[Action] = field(init=False)
    """What may be done in any place at all."""

    found: set[tuple[Action, str]] = field(init=False, default_factory=set)
    """What was found that may be done with flag sets; of those that exist, so it stays small."""

    def __post_init__(self) -> None:
        scopes = [Scope(each.project or "", each.environment or "") for each in self.principal.grants]
        self.everywhere = frozenset(each for each in Action if self.principal.may(each, Scope()))
        self.somewhere = frozenset(
            each for each in Action if any(self.principal.may(each, scope) for scope in [Scope(), *scopes])
        )

    def problem(self, now: float) -> str:
        """Why the credentials are not good; "" while they are."""
        if self.ended:
            return self.ended
        return f"{self.principal.actor} has expired" if now >= self.expires_at else ""


@dataclass(frozen=True, slots=True)
class Book:
    """All tokens at one moment; replaced whole."""

    key: bytes = b""
    by_digest: Mapping[str, Caller] = field(default_factory=dict)
    seen: dict[str, Caller] = field(default_factory=dict)
    """Tokens as they were presented -> who they stand for, so that each is digested once."""

    def find(self, text: str) -> Caller | None:
        """Who a token stands for; None when nobody knows it. Nothing is remembered of unknown ones."""
        known = self.seen.get(text)
        if known is None and self.key:
            # What is looked up is a digest with our key, so its timing tells nothing about other tokens.
            known = self.by_digest.get(token_digest(self.key, text))
            if known is not None:
                self.seen[text] = known
        return known


class Callers:
    """The tokens of a database, followed by a thread."""

    def __init__(
        self,
        engine: Engine,
        secret: Callable[[], bytes | None],
        *,
        changed: Callable[[], None] = lambda: None,
        kept: KeptTokens | None = None,
        poll_s: float = POLL_S,
        apart_s: float = APART_S,
        note_every_s: float = NOTE_EVERY_S,
    ) -> None:
        """`secret` gives the server's secret key, or None while there is none; `changed` is called from the thread.

        With `kept` a start without the database knows the tokens that were known last.
        """
        self._engine, self._secret, self._changed, self._kept = engine, secret, changed, kept
        self._poll_s, self._apart_s, self._note_every_s = poll_s, apart_s, note_every_s
        self.book = Book()
        self.loaded = False
        """True once the database was read; until then nobody can be refused for an unknown token."""

        self._by_id: dict[str, Caller] = {}
        self._noted: dict[str, float] = {}
        self._fingerprint: tuple[object, ...] = ()
        self._newest = False
        self._reported = ""
        self._asking: list[Future[None]] = []
        self._asking_lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="flagstaff-callers", daemon=True)

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop, after it was noted when tokens were last used."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def refresh(self) -> None:
        """Look now."""
        self._wake.set()

    def ask(self) -> "Future[None] | None":
        """Look now, for somebody who waits for it: done when the database has been read since.

        None when nobody looks, or when too many wait. Errors: its exception is StoreUnavailable where nothing is read.
        """
        asked: Future[None] = Future()
        with self._asking_lock:
            if not self._thread.is_alive() or self._stopping.is_set() or len(self._asking) >= ASKING_MAX:
                return None
            self._asking.append(asked)
        self._wake.set()
        return asked

    def who_is(self, actor: str) -> Principal | None:
        """What somebody is allowed now, nothing when their token ended; None when that is not known by a token.

        Errors: StoreUnavailable while the tokens were never read.
        """
        if not actor.startswith(TOKEN_ACTOR):
            return None
        if not self.loaded:
            raise StoreUnavailable("the tokens have not been read yet; try again in a moment")
        caller = self._by_id.get(actor.removeprefix(TOKEN_ACTOR))
        return Principal(actor) if caller is None or caller.problem(time.time()) else caller.principal

    def look(self) -> None:
        """Bring in what changed. Errors: StoreUnavailable, StoreCorrupt; InvalidRequest for a key that is none."""
        if self.loaded and not is_there(self._engine):
            # A connection would make an empty file in its place.
            raise StoreUnavailable(f"{shown(self._engine)} is not there")
        key = self._key()
        with reading(self._engine) as connection:
            found = fingerprint(connection)
            if self.loaded and (found, key) == (self._fingerprint, self.book.key):
                return
            stored = load_tokens(connection, ended_after=datetime.now(UTC) - ENDED_TOLD)
        self.take(stored, key)
        self._fingerprint = found
        self._changed()
        self._keep(stored)

    def take(self, stored: Iterable[StoredToken], key: bytes) -> None:
        """Know these tokens, and no others."""
        name = key_name(key) if key else ""
        by_digest: dict[str, Caller] = {}
        by_id: dict[str, Caller] = {}
        strange = 0
        for each in stored:
            if each.key_name != name:
                strange += 1
                continue
            by_id[each.token.id] = by_digest[each.digest] = self._caller(each)
        if strange:
            log.error(
                "tokens were made with another secret key and are not known here; give the server the key that they "
                "were made with",
                extra={"tokens": strange},
            )
        for identifier, caller in self._by_id.items():
            if identifier not in by_id:
                caller.ended = f"{caller.principal.actor} is not known any more"
        self._by_id = by_id
        self.book = Book(key, by_digest)
        self.loaded = True

    def note(self) -> None:
        """Write when tokens were last used, as far as that is news. Errors: StoreUnavailable, StoreCorrupt."""
        used = {
            identifier: caller.used_at
            for identifier, caller in self._by_id.items()
            if caller.used_at > self._noted.get(identifier, 0.0)
        }
        if used and is_there(self._engine):
            # Nobody waits for news of it.
            with writing(self._engine, tells=False) as connection:
                note_used(connection, {each: datetime.fromtimestamp(at, UTC) for each, at in used.items()})
            self._noted |= used

    def _is_ready(self) -> bool:
        """Whether tokens can be read: before, another thread brings the schema."""
        self._newest = self._newest or (is_there(self._engine) and is_newest(self._engine))
        return self._newest

    def _key(self) -> bytes:
        # Read until there is one; another key needs another start.
        if not self.book.key and (secret := self._secret()):
            return derived_key(secret, KEY_PURPOSE)
        return self.book.key

    def _keep(self, stored: Sequence[StoredToken]) -> None:
        if self._kept is not None and (stored or self._kept.path.exists()):
            try:
                self._kept.write(stored)
            except OSError as error:
                log.error("tokens could not be kept for a start without the database", extra={"error": str(error)})

    def _recall(self) -> None:
        """Know the tokens that were kept, while the database cannot say. Errors: as KeptTokens.read, InvalidRequest."""
        if self.loaded or self._kept is None:
            return
        stored = self._kept.read()
        if stored:
            self.take(stored, self._key())
            log.warning("tokens are known as they were kept last", extra={"tokens": len(stored)})

    def _caller(self, stored: StoredToken) -> Caller:
        """The caller of a token; the one that streams hold already, so that they learn what became of it."""
        token = stored.token
        caller = self._by_id.get(token.id) or Caller(token.principal)
        caller.expires_at = inf if token.expires_at is None else token.expires_at.timestamp()
        caller.ended = "" if token.revoked_at is None else f"token:{token.id} was revoked"
        return caller

    def _follow(self) -> None:
        note_at = time.monotonic() + self._note_every_s
        while not self._stopping.is_set():
            looked_at = time.monotonic()
            asking = self._take_asking()
            try:
                if self._is_ready():
                    self.look()
                    _answer(asking)
                else:
                    self._recall()
                if time.monotonic() >= note_at:
                    note_at = time.monotonic() + self._note_every_s
                    self.note()
                self._reported = ""
            except Exception as error:
                # The thread must live on: without it no token would ever be revoked again.
                self._report(error)
                with contextlib.suppress(FlagstaffError, OSError):
                    self._recall()
            # Whoever asked and was not answered by now cannot be.
            _answer(asking, StoreUnavailable("the tokens cannot be read now; try again in a moment"))
            self._wake.wait(self._poll_s)
            self._stopping.wait(max(0.0, looked_at + self._apart_s - time.monotonic()))
            self._wake.clear()
        _answer(self._take_asking(), StoreUnavailable("this server is stopping; ask another one"))
        try:
            self.note()
        except FlagstaffError as error:
            self._report(error)

    def _take_asking(self) -> "list[Future[None]]":
        with self._asking_lock:
            asking, self._asking = self._asking, []
        return asking

    def _report(self, error: Exception) -> None:
        told = str(error) if isinstance(error, FlagstaffError) else type(error).__qualname__
        if told != self._reported:
            self._reported = told
            log.error("tokens cannot be read; those that were loaded stay good", extra={"error": told})


def _answer(asking: "Iterable[Future[None]]", error: StoreUnavailable | None = None) -> None:
    """Tell those who are not told yet; who has gone meanwhile is left alone."""
    for each in asking:
        if each.done() or not each.set_running_or_notify_cancel():
            continue
        if error is None:
            each.set_result(None)
        else:
            each.set_exception(error)
