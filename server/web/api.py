"""Answer requests of tools: who asks, what they sent, and problems as RFC 9457 has them.

An endpoint is a function of one `Incoming`; where in a project its caller may do what it does, the function asks.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from server.core.access import Action, Principal
from server.core.errors import FlagstaffError, InvalidDefinition, InvalidRequest, Problem
from server.core.json import Json
from server.operations.gate import Gate
from server.web.access import CERTIFICATE, Guarded, credentials
from server.web.problems import problem, told
from server.web.replies import CLOSE, Reply, compact
from server.web.requests import Headers, Refused, check_says_json, headers_of, read_body

NESTING_MAX: Final = 60
DIGITS_MAX: Final = 18
"""Of a whole number: what any client and database holds exactly as an integer of 64 bits."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request, read whole."""

    principal: Principal
    headers: Headers
    path: Mapping[str, str]
    """The parameters in its path."""

    query: Mapping[str, str]
    raw: bytes = b""

    def object(self) -> dict[str, Json]:
        """The JSON object that was sent; {} for nothing. Errors: Refused 415, InvalidRequest, InvalidDefinition."""
        check_says_json(self.headers)
        return read_object(self.raw)

    def number(self, name: str, usual: int, *, least: int, most: int) -> int:
        """A number in the query. Errors: InvalidDefinition."""
        given = self.query.get(name, "")
        if not given:
            return usual
        if not (given.isascii() and given.isdigit() and least <= int(given) <= most):
            raise InvalidDefinition([Problem(f"/{name}", f"expected a whole number of {least} to {most}")])
        return int(given)


Answer: TypeAlias = Callable[[Incoming], Awaitable[Reply]]


class Endpoint(Guarded):
    """A function that answers those who may do what it does somewhere."""

    def __init__(self, answer: Answer, gate: Gate, action: Action, *, reads_body: bool = False) -> None:
        super().__init__(self, gate, action)
        self._answer, self._reads_body = answer, reads_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            reply = await self._answered(scope, receive)
        except Refused as refused:
            # Of a body that was not read to its end nobody knows where the next request begins.
            reply = told(refused.status, refused.details, headers=CLOSE)
        except FlagstaffError as error:
            reply = problem(error)
        await reply.send(send)

    async def _answered(self, scope: Scope, receive: Receive) -> Reply:
        headers = headers_of(scope)
        principal = await self._who(scope, headers)
        raw = await read_body(headers, receive) if self._reads_body else b""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=100))
        return await self._answer(Incoming(principal, headers, scope.get("path_params", {}), query, raw))

    async def _who(self, scope: Scope, headers: Headers) -> Principal:
        names = scope.get("state", {}).get(CERTIFICATE, ())
        given = credentials(headers)
        caller = await self._gate.entered(lambda: self._gate.admit(self.action, given, lambda: names))
        return caller.principal


def read_object(raw: bytes) -> dict[str, Json]:
    """A JSON object, of texts and numbers that can be kept; {} for nothing. Errors: InvalidRequest."""
    if not raw.strip():
        return {}
    try:
        value: Any = json.loads(raw, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
        # Half of a surrogate pair is no text in UTF-8; JSON can write it by its number.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is no JSON, or holds a number or a text that cannot be kept") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body is no JSON object")
    if _is_deep(value):
        raise InvalidRequest(f"the body is nested more than {NESTING_MAX} deep")
    return value


def _refuse(name: str) -> None:
    raise ValueError(name)


def _whole(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise ValueError("too large")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number


def _is_deep(value: Json) -> bool:
    level = [value]
    for _ in range(NESTING_MAX):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def answered(status: int, value: Mapping[str, Any], *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """An answer of JSON that nobody keeps."""
    return Reply(status, compact(value), ((b"cache-control", b"no-store"), *headers))
