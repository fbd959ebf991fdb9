"""Health, the errors of paths and methods, and pages of other origins."""

from typing import Final

import httpx
import pytest

from server.core.context import Enrichment
from server.core.errors import InvalidRequest
from server.live.holder import Serving
from server.live.watch import Hub
from server.web.app import WebOptions, make_app
from server.web.cors import ALLOWED_HEADERS, parse_origin
from tests.fakes import NOW, chooses, fake_clock, holder_of, snapshot_of
from tests.web.asking import BULK, SINGLE, app_of, client_of, post, sample

PAGE: Final = "https://app.example.com"
AGED: Final = chooses("aged", "age", lambda age: age in ("20", "21"))


async def get(
    path: str, *, options: WebOptions | None = None, stale_s: float | None = None, leaving: bool = False
) -> httpx.Response:
    """Ask a server whose database has been gone for a time."""
    holder = holder_of(sample())
    since = None if stale_s is None else NOW - stale_s
    why = "" if stale_s is None else "the schema was made by a newer Flagstaff"
    holder.serving = Serving(holder.serving.snapshots, stale_since=since, stale_because=why)
    app = make_app(holder, Hub(), clock=fake_clock, leaving=lambda: leaving, options=options or WebOptions())
    async with client_of(app) as client:
        return await client.get(path)


@pytest.mark.parametrize(
    ("stale_s", "max_staleness_s", "status"),
    [(None, None, 200), (1e9, None, 200), (None, 0.0, 200), (30.0, 30.0, 200), (30.1, 30.0, 503)],
)
async def test_fresh_enough(stale_s: float | None, max_staleness_s: float | None, status: int) -> None:
    """Ready as long as the database is not gone for longer than the operator allows; without a limit, for ever."""
    response = await get("/readyz", options=WebOptions(max_staleness_s=max_staleness_s), stale_s=stale_s)

    assert (status, status == 200) == (response.status_code, response.json()["ready"])


async def test_why_it_is_stale_is_told() -> None:
    """Whoever looks at a server that goes on without its database sees the reason; while it is there, there is none."""
    stale, fresh = [(await get("/readyz", stale_s=stale_s)).json() for stale_s in (30.0, None)]

    assert "the schema was made by a newer Flagstaff" == stale["staleBecause"]
    assert "staleBecause" not in fresh


async def test_leaving_is_not_ready() -> None:
    """A server that is about to stop takes no new traffic, but it lives."""
    assert (503, 200) == (
        (await get("/readyz", leaving=True)).status_code, (await get("/healthz", leaving=True)).status_code,
    )  # fmt: skip


async def test_readiness_tells_revisions() -> None:
    """By flag set."""
    body = (await get("/readyz")).json()

    assert {"default/production": {"revision": 7, "flags": len(sample().flags)}} == body["flagSets"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", BULK + "x", 404),
        ("GET", "/ofrep/v1/configuration", 404),
        ("GET", BULK, 405),
        ("PUT", SINGLE + "boolean", 405),
        ("DELETE", "/healthz", 405),
        ("POST", "/ofrep/v1/events", 405),
        ("OPTIONS", BULK, 405),
    ],
)
async def test_no_such_path_or_method(method: str, path: str, status: int) -> None:
    """JSON says what is wrong; with a method that is not taken, Allow says which are."""
    async with client_of(app_of()) as client:
        response = await client.request(method, path)

    assert (status, ["errorDetails"]) == (response.status_code, list(response.json()))
    assert (status == 405) is ("allow" in response.headers)


async def test_a_fault_of_ours() -> None:
    """What nobody expected is 500 with JSON, and tells nothing of the inside."""
    broken = holder_of(snapshot_of())
    broken.serving = None  # type: ignore[assignment]  # Anything that makes a handler raise.

    response = await post(BULK, app=app_of(broken))

    assert (500, {"errorDetails": "internal error; the server's log says more"}) == (
        response.status_code, response.json(),
    )  # fmt: skip


async def preflight(
    origins: list[str], *, origin: str = PAGE, header: str = "", method: str = "POST"
) -> httpx.Response:
    """What a browser asks before a page of `origin` may send a request with a header."""
    app = app_of(options=WebOptions(cors_origins=origins, enrichment=Enrichment(headers={"x-region": "region"})))
    asked = {"origin": origin, "access-control-request-method": method}
    async with client_of(app) as client:
        return await client.options(BULK, headers={**asked, "access-control-request-headers": header})


@pytest.mark.parametrize("header", [*ALLOWED_HEADERS, "If-None-Match", "X-Region", "Authorization, Content-Type"])
async def test_preflight(header: str) -> None:
    """An allowed origin may send what OFREP clients send, and what the operator maps into contexts."""
    response = await preflight([PAGE], header=header)

    assert (200, PAGE) == (response.status_code, response.headers["access-control-allow-origin"])


@pytest.mark.parametrize(
    "asked", [{"origin": "https://other.example.com"}, {"origin": "null"}, {"header": "x-other"}, {"method": "DELETE"}]
)
async def test_refused_preflight(asked: dict[str, str]) -> None:
    """Another origin, header or method is refused."""
    assert 400 == (await preflight([PAGE], **asked)).status_code


@pytest.mark.parametrize(
    ("origins", "allowed"), [([PAGE], PAGE), (["*"], "*"), (["https://other.example.com"], None), ([], None)]
)
async def test_pages_read_answers(origins: list[str], allowed: str | None) -> None:
    """An allowed page reads the answer, with its entity tag and Retry-After; none is allowed unless named."""
    response = await post(BULK, app=app_of(options=WebOptions(cors_origins=origins)), headers={"origin": PAGE})

    assert allowed == response.headers.get("access-control-allow-origin")
    exposed = response.headers.get("access-control-expose-headers")
    assert ("ETag, Retry-After" if origins else None) == exposed


async def test_pages_read_refusals() -> None:
    """Also a refusal may be read, or a page could not tell what is wrong."""
    app = app_of(options=WebOptions(cors_origins=[PAGE]))

    response = await post(BULK, b"{", app=app, headers={"origin": PAGE})

    assert (400, PAGE) == (response.status_code, response.headers["access-control-allow-origin"])


@pytest.mark.parametrize("origin", ["*", "http://localhost:3000", "https://app.example.com", "http://[::1]:8000"])
def test_origins(origin: str) -> None:
    """As browsers write them."""
    assert origin == parse_origin(origin)


@pytest.mark.parametrize(
    "origin",
    ["", "app.example.com", "https://app.example.com/", "https://a.example/x", "https://A.example", "null", "ftp://a"],
)
def test_no_origins(origin: str) -> None:
    """What a browser never sends would never match, so it is refused at the start."""
    with pytest.raises(InvalidRequest, match="is no origin"):
        parse_origin(origin)


@pytest.mark.parametrize(
    ("enrichment", "age", "value"),
    [
        (Enrichment({"age": "20"}), 1, True),
        (Enrichment(headers={"x-age": "age"}), 1, True),
        (Enrichment({"age": "3"}, {"x-age": "age"}), 1, True),
        (Enrichment({"other": "20"}), 1, False),
    ],
)
async def test_enrichment(enrichment: Enrichment, age: int, value: bool) -> None:
    """A header's value counts over a fixed one, a fixed one over the caller's; and the entity tag covers them."""
    app = app_of(holder_of(snapshot_of(AGED)), options=WebOptions(enrichment=enrichment))
    body = {"context": {"age": age}}

    response = await post(SINGLE + "aged", body, app=app, headers={"X-Age": "20"})
    tags = {(await post(BULK, body, app=app, headers={"X-Age": each})).headers["etag"] for each in ("20", "21")}

    assert value is response.json()["value"]
    assert (2 if enrichment.headers else 1) == len(tags)
