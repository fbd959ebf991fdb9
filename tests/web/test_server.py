"""OFREP over real connections to a real server: bounds of HTTP, events of a change, and the end of a drain."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from server.web.requests import BODY_BYTES_MAX
from server.web.server import HTTP_HEADER_BYTES_MAX
from tests.conformance.processes import HOST, FlagSetFile, Server, import_flags, serve_database, tail
from tests.web.asking import BULK, EVENTS, JSON_HEADERS, SINGLE

TIMEOUT_S: Final = 30.0
CONNECTIONS: Final = 10
"""Enough that each of two processes has some, nearly always."""

SET_NAME: Final = "default/production"


def flags(default: str) -> FlagSetFile:
    """One boolean flag, as flagd's format has it."""
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default}
    return FlagSetFile({"flags": {"a/b": flag}})


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[Server]:
    """A server over a new database of one flag that is on."""
    import_flags(folder / "on.json", flags("on"), database=database(folder))
    options = ["--context-from-header", "X-Region=region", "--cors-origin", "https://app.example.com"]
    running = serve_database(folder, database(folder), options=[*options, *more])
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test changes or stops."""
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test."""
    with serving(tmp_path) as running:
        yield running


def database(folder: Path) -> str:
    """The database in a directory."""
    return f"sqlite:///{folder / 'flags.db'}"


def client(server: Server) -> httpx.Client:
    """A client of the HTTP port."""
    return httpx.Client(base_url=f"http://{HOST}:{server.ports.http}", timeout=TIMEOUT_S, headers=JSON_HEADERS)


def raw(server: Server, request: bytes) -> bytes:
    """Send bytes, and read until the server closes the connection."""
    with closing(socket.create_connection((HOST, server.ports.http), timeout=TIMEOUT_S)) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_asks(server: Server) -> None:
    """A connection carries single and bulk evaluations one after the other; an encoded slash is one."""
    with client(server) as http:
        answers = [http.post(SINGLE + path, json={}) for path in ("a/b", "a%2Fb", "a%2fb")]
        whole = http.post(BULK, json={})
        again = http.post(BULK, json={}, headers={"if-none-match": whole.headers["etag"]})

    assert {(200, '{"key":"a/b","reason":"STATIC","value":true,"variant":"on"}')} == {
        (each.status_code, each.text) for each in answers
    }
    assert (200, 304, b"") == (whole.status_code, again.status_code, again.content)


@pytest.mark.parametrize(
    ("size", "status"), [(BODY_BYTES_MAX, 200), (BODY_BYTES_MAX + 1, 413), (3 * BODY_BYTES_MAX, 413)]
)
def test_a_large_body_is_answered(server: Server, size: int, status: int) -> None:
    """A client that still writes when the body is too large gets to read why; the server goes on."""
    with client(server) as http:
        response = http.post(SINGLE + "a/b", content=b"{}" + b" " * (size - 2))
        after = http.post(SINGLE + "a/b", json={})

    assert (status, 200) == (response.status_code, after.status_code)


def test_large_headers_are_refused(server: Server) -> None:
    """More headers than the bound end the connection with a 400, and cost nobody else anything."""
    filler = b"x-filler: " + b"f" * (HTTP_HEADER_BYTES_MAX + 1_000)
    answer = raw(server, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + filler)

    assert answer.startswith(b"HTTP/1.1 400 ")
    with client(server) as http:
        assert 200 == http.get("/healthz").status_code


def test_a_body_that_breaks_off(server: Server) -> None:
    """A client that goes away in the middle leaves no error behind."""
    with closing(socket.create_connection((HOST, server.ports.http), timeout=TIMEOUT_S)) as connection:
        connection.sendall(b"POST " + BULK.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")

    with client(server) as http:
        assert 200 == http.post(SINGLE + "a/b", json={}).status_code
    assert "ERROR" not in tail(server.log)


def test_bytes_that_are_no_http(server: Server) -> None:
    """They are refused."""
    assert raw(server, b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_change_is_told_and_the_end_too(own_server: Server, tmp_path: Path) -> None:
    """A commit reaches an open stream; the evaluation that it asks for has the new value; a drain ends it well."""
    with client(own_server) as http, http.stream("GET", EVENTS, params={"flagSetId": SET_NAME}) as stream:
        lines = stream.iter_lines()
        # The server's own start is a recent change, so there may be one event before.
        import_flags(tmp_path / "off.json", flags("off"), database=database(tmp_path))
        event = wait_for_revision(lines, 2)
        answer = http.post(BULK, json={}, params={"flagConfigEtag": event["etag"]}).json()
        own_server.process.send_signal(signal.SIGTERM)
        # Not an error: the stream is complete.
        rest = list(lines)

    assert False is answer["flags"][0]["value"]
    assert "refetchEvaluation" not in "".join(rest)
    assert 0 == own_server.process.wait(TIMEOUT_S)


def test_every_worker_answers_from_the_told_revision(tmp_path: Path) -> None:
    """A page that one process told of a change is answered from it by each of the others, on any connection."""
    with serving(tmp_path, "--workers", "2") as group:
        with client(group) as http, http.stream("GET", EVENTS) as stream:
            import_flags(tmp_path / "off.json", flags("off"), database=database(tmp_path))
            event = wait_for_revision(stream.iter_lines(), 2)
        told = {"flagConfigEtag": event["etag"]}
        answers = []
        for _ in range(CONNECTIONS):
            with client(group) as http:
                answers.append(http.post(BULK, json={}, params=told))

    assert {False} == {each.json()["flags"][0]["value"] for each in answers}
    # Whoever answers next knows what the client has.
    assert 1 == len({each.headers["etag"] for each in answers})


def wait_for_revision(lines: Iterator[str], revision: int) -> dict[str, Any]:
    """The data of the event that tells of a revision."""
    until = time.monotonic() + TIMEOUT_S
    for line in lines:
        if line.startswith("data: "):
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            if event["etag"].startswith(f"{revision}-"):
                return event
        assert time.monotonic() < until
    raise AssertionError("the stream ended")


def test_an_idle_stream_does_not_hold_the_end_up(own_server: Server) -> None:
    """A client that does not read and does not go is not waited for."""
    request = f"GET {EVENTS} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with closing(socket.create_connection((HOST, own_server.ports.http), timeout=TIMEOUT_S)) as connection:
        connection.sendall(request)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        own_server.process.send_signal(signal.SIGTERM)

        assert 0 == own_server.process.wait(TIMEOUT_S)


def test_pages_of_the_named_origin(server: Server) -> None:
    """`--cors-origin` names who may ask, and headers that become context values may be sent."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-region"}
    with client(server) as http:
        statuses = {
            origin: http.options(BULK, headers={"origin": f"https://{origin}.example.com", **asked}).status_code
            for origin in ("app", "other")
        }

    assert {"app": 200, "other": 400} == statuses
