"""Ask Prometheus, and others that answer JSON over HTTP, what something comes to.

Addresses are the operator's: a guard names a provider and a query, and can name no other address. Tokens come from the
process's environment and go nowhere but into the header of a request.
"""

import logging
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import urllib3

from server.core.errors import FlagstaffError, InvalidRequest
from server.core.guards.answers import read_json, read_prometheus, split_query
from server.core.guards.guards import Guard, Method
from server.core.guards.providers import Provider, ProviderKind
from server.core.guards.verdicts import Arm, Summary

TIMEOUT_S: Final = 5.0
"""For one answer, from the connection to its last byte."""

BODY_BYTES_MAX: Final = 1024 * 1024
CONNECTIONS_MAX: Final = 8
"""To one provider."""

_CHUNK_BYTES: Final = 64 * 1024

log = logging.getLogger("flagstaff.providers")


class HttpProviders:
    """The providers of one server. May be asked by several threads at once."""

    def __init__(self, providers: Collection[Provider], *, timeout_s: float = TIMEOUT_S) -> None:
        self._providers: Mapping[str, Provider] = {each.name: each for each in providers}
        self._timeout_s = timeout_s
        # Of its own accord it follows redirects, which may lead anywhere, and asks again, which guards do themselves.
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS_MAX, retries=False)

    def names(self) -> Collection[str]:
        """Those that can be named."""
        return self._providers.keys()

    def check(self, guard: Guard) -> None:
        """Errors: InvalidRequest for a query that this provider cannot be asked."""
        provider = self._providers.get(guard.provider)
        if provider is not None and provider.kind is ProviderKind.JSON:
            for query in filter(None, (guard.query, guard.control_query)):
                split_query(query)

    def measure(self, guard: Guard, *, now: datetime) -> Summary:
        """What a guard's query comes to; what cannot be measured is told. Never raises."""
        provider = self._providers.get(guard.provider)
        if provider is None:
            named = ", ".join(sorted(self._providers)) or "none"
            error = f"provider {guard.provider!r} is not in this server's settings, which have: {named}"
            return Summary(Arm(), error=error)
        try:
            treatment = Arm(self._ask(provider, guard.query, now))
            control = None
            if guard.method is not Method.THRESHOLD:
                control = Arm(self._ask(provider, guard.control_query, now))
        except FlagstaffError as error:
            return Summary(Arm(), error=f"{provider.name}: {error}")
        except Exception:
            # Whatever a stranger's answer brings about must not end the thread that all guards share.
            log.exception("a provider could not be asked", extra={"provider": provider.name})
            return Summary(Arm(), error=f"{provider.name}: it could not be asked; the server's log says why")
        return Summary(treatment, control)

    def _ask(self, provider: Provider, query: str, now: datetime) -> float | None:
        base = provider.url.rstrip("/")
        if provider.kind is ProviderKind.PROMETHEUS:
            url = f"{base}/api/v1/query?query={quote(query, safe='')}&time={now.timestamp():.3f}"
            # Prometheus says with 400 and 422 what is wrong with a query.
            return read_prometheus(self._get(provider, url, also=(400, 422)))
        path, pointer = split_query(query)
        return read_json(self._get(provider, base + path), pointer)

    def _get(self, provider: Provider, url: str, *, also: Collection[int] = ()) -> bytes:
        """The body of an answer. Errors: InvalidRequest, saying what went wrong."""
        until = time.monotonic() + self._timeout_s
        headers = {"accept": "application/json", "user-agent": "flagstaff"}
        if provider.token:
            headers["authorization"] = f"Bearer {provider.token}"
        try:
            response = self._pool.request(
                "GET",
                url,
                headers=headers,
                timeout=urllib3.Timeout(total=self._timeout_s),
                redirect=False,
                preload_content=False,
            )
            try:
                if response.status != 200 and response.status not in also:
                    raise InvalidRequest(f"it answered with status {response.status}")
                return self._read(response, until)
            finally:
                # One that was not read to its end would be the next answer's beginning.
                response.drain_conn() if _is_short(response) else response.close()
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise InvalidRequest(f"it could not be asked ({type(error).__name__})") from None

    def _read(self, response: Any, until: float) -> bytes:
        body = bytearray()
        for chunk in response.stream(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise InvalidRequest(f"its answer has more than {BODY_BYTES_MAX} bytes")
            if time.monotonic() > until:
                raise InvalidRequest(f"its answer took more than {self._timeout_s:g} s")
        return bytes(body)


def _is_short(response: Any) -> bool:
    return bool(response.status == 200 and response.isclosed())
