"""Recognise the access tokens of an OpenID Connect issuer, by keys that are fetched beforehand.

A thread fetches the issuer's keys, now and then and soon after a token names one that is not known; no call waits for
it. While the issuer cannot be reached, the keys that were fetched last stay good. Where its keys are, is asked of the
issuer alone: what a token says about it is not looked at.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

from server.core.access import Principal
from server.core.claims import ALGORITHMS, IssuerTrust, check_url, grants_of_claims, subject_of
from server.core.errors import FlagstaffError, StoreUnavailable, Unauthenticated
from server.live.callers import Caller

DISCOVERY: Final = "/.well-known/openid-configuration"
REFRESH_S: Final = 600.0
RETRY_S: Final = 5.0
WANTED_S: Final = 10.0
"""Between two attempts because of unknown keys: whoever invents keys must not have the issuer asked all the time."""

FETCH_TIMEOUT_S: Final = 10.0
FETCHED_BYTES_MAX: Final = 1024 * 1024
KEYS_MAX: Final = 100
REMEMBERED_MAX: Final = 10_000
LEEWAY_S: Final = 30
"""By how much clocks may differ."""

_KINDS: Final = ("RSA", "EC", "OKP")

log = logging.getLogger("flagstaff.access")


@dataclass(frozen=True, slots=True)
class _Key:
    key: Any
    algorithms: tuple[str, ...]
    """What it may have signed with: no token chooses for itself."""

    told: str
    """All that the issuer said of it."""


class Issuer:
    """One issuer whose tokens are taken. Satisfies operations/identity.py's Foreign."""

    def __init__(
        self,
        trust: IssuerTrust,
        *,
        changed: Callable[[], None] = lambda: None,
        refresh_s: float = REFRESH_S,
        retry_s: float = RETRY_S,
        wanted_s: float = WANTED_S,
    ) -> None:
        """`changed` is called from the thread when keys are others."""
        self._trust, self._changed = trust, changed
        self._refresh_s, self._retry_s, self._wanted_s = refresh_s, retry_s, wanted_s
        self._keys: Mapping[str, _Key] = {}
        self._known: dict[bytes, tuple[Caller, str]] = {}
        """Digest of a token that was verified -> who it stands for, and by which key."""

        self._fetched = False
        self._reported = ""
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="flagstaff-issuer", daemon=True)

    def start(self) -> None:
        """Begin to fetch keys; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a fetch that is under way is not waited for."""
        self._stopping.set()
        self._wanted.set()

    def caller(self, text: str, now: float) -> Caller:
        """Who a token stands for. Errors: Unauthenticated; StoreUnavailable while there are no keys yet."""
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is None:
            if not self._fetched:
                raise StoreUnavailable(
                    "the keys of the tokens' issuer have not been fetched yet; ask again in a moment"
                )
            known = self._verified(text)
            if len(self._known) >= REMEMBERED_MAX:
                # The oldest; it is verified again when it comes again.
                self._known.pop(next(iter(self._known)), None)
            self._known[digest] = known
        problem = known[0].problem(now)
        if problem:
            self._known.pop(digest, None)
            raise Unauthenticated(f"{problem}; get another token of its issuer")
        return known[0]

    def fetch(self) -> None:
        """Fetch the keys now. Errors: OSError, ValueError, FlagstaffError; then the last ones stay."""
        issuer = self._trust.issuer
        told = _get(issuer.rstrip("/") + DISCOVERY)
        if told.get("issuer") != issuer:
            raise ValueError(f"it calls itself {str(told.get('issuer'))[:200]!r}, expected {issuer!r}")
        where = told.get("jwks_uri")
        if not isinstance(where, str):
            raise ValueError("it does not say where its keys are")
        check_url(where, "the issuer's jwks_uri")
        self._take(_get(where).get("keys"))

    def _take(self, told: object) -> None:
        found = [_read_key(each) for each in (told[:KEYS_MAX] if isinstance(told, list) else [])]
        keys = {name: key for name, key in filter(None, found)}
        if not keys:
            raise ValueError("it has no keys that can be used")
        before, self._keys, self._fetched = self._keys, keys, True
        if keys.keys() != before.keys() or any(keys[name].told != before[name].told for name in keys):
            log.info("the keys of the issuer of access tokens were fetched", extra={"keys": len(keys)})
            self._forget({name for name, key in before.items() if name not in keys or keys[name].told != key.told})
            self._changed()

    def _forget(self, gone: set[str]) -> None:
        for digest, (caller, key) in list(self._known.items()):
            if key in gone:
                caller.ended = f"{caller.principal.actor} was vouched for by a key that the issuer took back"
                self._known.pop(digest, None)

    def _verified(self, text: str) -> tuple[Caller, str]:
        trust = self._trust
        try:
            header = jwt.get_unverified_header(text)
            name, key = self._key(header)
            claims = jwt.decode(
                text,
                key.key,
                algorithms=[each for each in trust.algorithms if each in key.algorithms],
                audience=trust.audiences,
                issuer=trust.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            actor = f"oidc:{subject_of(claims)}"
            expires_at = float(claims["exp"]) + LEEWAY_S
        except Unauthenticated:
            raise
        except (jwt.PyJWTError, FlagstaffError, TypeError, ValueError, OverflowError, RecursionError) as error:
            # What the library says names claims and algorithms, and never the token.
            raise Unauthenticated(f"the access token is not good: {str(error)[:200]}") from None
        return Caller(Principal(actor, grants_of_claims(claims, trust.rules)), expires_at), name

    def _key(self, header: Mapping[str, Any]) -> tuple[str, _Key]:
        if header.get("alg") not in self._trust.algorithms:
            raise Unauthenticated(
                f"the access token is signed by {str(header.get('alg'))[:20]!r}; taken are: "
                f"{', '.join(self._trust.algorithms)}"
            )
        keys = self._keys
        name = str(header.get("kid", ""))
        if "kid" not in header and len(keys) == 1:
            name = next(iter(keys))
        if name not in keys:
            self._wanted.set()
            raise Unauthenticated(
                f"the access token is signed by key {name[:64]!r}, which its issuer did not have when it was asked "
                "last; it is asked again, try in a moment"
            )
        return name, keys[name]

    def _follow(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.fetch()
            except Exception as error:
                # The thread must live on, whatever the issuer answers.
                self._report(error)
                self._stopping.wait(self._retry_s)
                continue
            self._reported = ""
            self._wanted.clear()
            # A wish for keys is heard at once, but not right after they were fetched.
            if self._wanted.wait(self._refresh_s):
                self._stopping.wait(max(0.0, self._wanted_s - (time.monotonic() - began)))

    def _report(self, error: Exception) -> None:
        told = str(error.reason) if isinstance(error, URLError) else str(error)
        if told != self._reported:
            self._reported = told
            log.error(
                "the keys of the issuer of access tokens cannot be fetched; those that were fetched stay good",
                extra={"issuer": self._trust.issuer, "error": told[:300]},
            )


class _NoRedirects(HTTPRedirectHandler):
    """An issuer that sends us elsewhere is not the one that is trusted."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Refuse."""


_OPENER: Final = build_opener(_NoRedirects)


def _get(url: str) -> dict[str, Any]:
    request = Request(url, headers={"accept": "application/json"})
    with _OPENER.open(request, timeout=FETCH_TIMEOUT_S) as reply:
        body = reply.read(FETCHED_BYTES_MAX + 1)
    if len(body) > FETCHED_BYTES_MAX:
        raise ValueError(f"it answers with more than {FETCHED_BYTES_MAX} bytes")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it answers with no JSON") from None
    if not isinstance(told, dict):
        raise ValueError("it answers with no JSON object")
    return told


def _read_key(told: object) -> tuple[str, _Key] | None:
    """A key with its name; None for one for something else, or of a kind to come."""
    if not isinstance(told, dict) or told.get("use", "sig") != "sig" or told.get("kty") not in _KINDS:
        return None
    try:
        key = jwt.PyJWK.from_dict(told)
    except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError):
        return None
    # An RSA key may do for several algorithms; the curve of another one settles it.
    several = told["kty"] == "RSA" and "alg" not in told
    algorithms = tuple(each for each in ALGORITHMS if each[:2] in ("RS", "PS")) if several else (key.algorithm_name,)
    return str(told.get("kid", "")), _Key(key.key, algorithms, json.dumps(told, sort_keys=True))
