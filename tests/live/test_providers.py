"""Providers are asked within bounds, and whatever they do is told."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from server.core.guards.guards import Guard, Method
from server.core.guards.providers import Provider, ProviderKind
from server.core.guards.verdicts import Arm, Summary
from server.live.providers import BODY_BYTES_MAX, HttpProviders
from tests import prometheus as real_prometheus

NOW: Final = datetime(2026, 11, 25, tzinfo=UTC)
GUARD: Final = Guard("errors", "production", provider="ours", query="/errors#/rate", high=1)


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers as its path says, and remembers the headers it was sent."""

    seen: Final[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        """Answer."""
        self.seen.append(dict(self.headers))
        body = json.dumps({"rate": 0.25, "control": 0.5}).encode()
        status, more = 200, []
        match self.path:
            case "/broken":
                status = 503
            case "/elsewhere":
                status, more = 302, [("location", "/errors")]
            case "/endless":
                body = b" " * (BODY_BYTES_MAX + 1)
            case "/slow":
                time.sleep(1)
            case "/cut":
                more = [("content-length", "100")]
        self.send_response(status)
        for name, value in more or [("content-length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where somebody answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def asked(address: str, query: str, **guard: Any) -> Summary:
    """What a query to somebody comes to."""
    provider = Provider("ours", ProviderKind.JSON, address, "a-secret-token")
    providers = HttpProviders([provider], timeout_s=0.5)
    return providers.measure(replace(GUARD, query=query, **guard), now=NOW)


def test_a_number_is_asked_for(address: str) -> None:
    """With the token in its header, and nowhere else."""
    assert Summary(Arm(0.25)) == asked(address, "/errors#/rate")
    assert "Bearer a-secret-token" == Stranger.seen[-1]["authorization"]


def test_a_control_is_asked_for(address: str) -> None:
    """By a query of its own."""
    control = asked(address, "/errors#/rate", method=Method.RATIO_TO_CONTROL, control_query="/errors#/control")

    assert Summary(Arm(0.25), Arm(0.5)) == control


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("/broken#/rate", "ours: it answered with status 503"),
        ("/elsewhere#/rate", "ours: it answered with status 302"),
        ("/endless#/rate", "ours: its answer has more than 1048576 bytes"),
        ("/slow#/rate", "ours: it could not be asked (ReadTimeoutError)"),
        ("/cut#/rate", "ours: it could not be asked (ProtocolError)"),
        ("//evil.example#/rate", "ours: //evil.example is no path below the provider's address; it begins with one /"),
    ],
)
def test_what_goes_wrong_is_told(address: str, query: str, error: str) -> None:
    """Without the token, and without an exception."""
    assert Summary(Arm(), error=error) == asked(address, query)


def test_nobody_there_is_told() -> None:
    """So is a provider that the settings do not name."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = asked(f"http://127.0.0.1:{closed.getsockname()[1]}", "/errors#/rate")
    unknown = HttpProviders([]).measure(GUARD, now=NOW)

    assert nobody.error.startswith("ours: it could not be asked (")
    assert "provider 'ours' is not in this server's settings, which have: none" == unknown.error


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus with nothing to scrape."""
    real_prometheus.require()
    with real_prometheus.running(tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("vector(0.25)", Summary(Arm(0.25))),
        ("scalar(vector(2))", Summary(Arm(2.0))),
        ("up{job='nobody'}", Summary(Arm())),
        ("sum(", "prom: Prometheus says: "),
    ],
)
def test_a_real_prometheus_answers(prometheus: str, query: str, expected: Summary | str) -> None:
    """A vector, a scalar, nothing, and a query that is none."""
    providers = HttpProviders([Provider("prom", ProviderKind.PROMETHEUS, prometheus)])
    summary = providers.measure(replace(GUARD, provider="prom", query=query), now=datetime.now(UTC))

    if isinstance(expected, str):
        assert summary.error.startswith(expected)
    else:
        assert expected == summary
