"""Ask the HTTP application without a socket."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
from starlette.types import ASGIApp

from server.core.evaluation.snapshot import Snapshot
from server.core.flags import ValueType
from server.core.resolution import ErrorCode, Reason, Resolution
from server.live.holder import Holder
from server.live.watch import Hub
from server.web.app import WebOptions, make_app
from tests.fakes import answer, chooses, failure, fake_clock, holder_of, rule_flag, snapshot_of, static_flag

SINGLE: Final = "/ofrep/v1/evaluate/flags/"
BULK: Final = "/ofrep/v1/evaluate/flags"
EVENTS: Final = "/ofrep/v1/events"
JSON_HEADERS: Final = {"content-type": "application/json"}


def sample() -> Snapshot:
    """A flag of every kind of answer."""
    return snapshot_of(
        static_flag(answer("boolean", True)),
        static_flag(answer("text", "", variant="none")),
        static_flag(Resolution("integer", ValueType.INTEGER, 10.0, "ten", Reason.STATIC)),
        static_flag(Resolution("whole", ValueType.FLOAT, 1, "one", Reason.STATIC)),
        static_flag(answer("object", {"deep": [1, 1.0, None]}, variant="set", metadata={"owner": "shop", "level": 2})),
        static_flag(answer("disabled", None, variant=None, reason=Reason.DISABLED)),
        static_flag(answer("off", False, variant="off", reason=Reason.DISABLED)),
        static_flag(answer("no-default", None, variant=None, reason=Reason.DEFAULT)),
        static_flag(failure("parse", ErrorCode.PARSE_ERROR, "operator 'x' is unknown")),
        static_flag(failure("general", ErrorCode.GENERAL, "no variant 'y'")),
        static_flag(failure("mismatch", ErrorCode.TYPE_MISMATCH, "is a list")),
        static_flag(failure("keyless", ErrorCode.TARGETING_KEY_MISSING, "send a targetingKey")),
        static_flag(answer("group/flag ü?#", True)),
        chooses("adult", "age", lambda age: age is not None and age >= 18),
        chooses("named", "targetingKey", lambda name: name == "ann"),
        rule_flag("float", lambda context, now: FLOAT, reads=None, type_=ValueType.FLOAT),
    )


FLOAT: Final = answer("float", 1.0, variant="one", reason=Reason.TARGETING_MATCH)


def app_of(holder: Holder | None = None, *, hub: Hub | None = None, options: WebOptions | None = None) -> ASGIApp:
    """The application over some flags; the samples when none are given."""
    return make_app(
        holder or holder_of(sample()),
        hub or Hub(),
        clock=fake_clock,
        leaving=lambda: False,
        options=options or WebOptions(),
    )


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, which answers 500 where it raises."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def post(
    path: str,
    body: Any = None,
    *,
    app: ASGIApp | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Post JSON, or bytes as they are, to the application of the samples or another one."""
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    async with client_of(app or app_of()) as client:
        return await client.post(path, content=content, headers={**JSON_HEADERS, **(headers or {})})
