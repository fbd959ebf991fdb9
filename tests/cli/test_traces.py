"""Traces of `flagstaff serve`, sent to a receiver of OTLP over HTTP."""

import gzip
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server.core.errors import InvalidRequest
from server.telemetry import set_up_tracing, traces_url
from tests.cli.servers import ROOT, TIMEOUT_S, Start, serving, stopped

PATH = "/ofrep/v1/evaluate/flags/banner"
WITHOUT_THE_EXTRA = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from server.cli.main import main
main()
"""


class Receiver(ThreadingHTTPServer):
    """Takes what an exporter sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []


class Handler(BaseHTTPRequestHandler):
    """Decodes a request, and says that it was taken."""

    server: Receiver

    def do_POST(self) -> None:
        """Keep the path and the message."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that listens for as long as the test runs."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def evaluate(told: dict[str, Any]) -> Any:
    """Ask a running server for one flag."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{told['http_port']}{PATH}",
        data=json.dumps({"context": {"targetingKey": "alice"}}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        return json.load(reply)


def python(source: str, *arguments: str, where: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    command = [sys.executable, "-c", source, *arguments]
    environment = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_spans_reach_a_receiver(start: Start, receiver: Receiver) -> None:
    """At the latest when the server stops; with the service's name and the event of the evaluation."""
    process = start("--demo", "--json", f"--otlp-endpoint=http://127.0.0.1:{receiver.server_port}", "--trace-ratio=1")
    evaluate(serving(process))
    code, _, _ = stopped(process)

    ((path, message),) = receiver.received
    (resource,) = message.resource_spans
    ((span,),) = [scope.spans for scope in resource.scope_spans]
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (0, "/v1/traces", "flagstaff") == (code, path, named["service.name"])
    assert [("feature_flag.evaluation", "banner")] == [
        (event.name, next(each.value.string_value for each in event.attributes if each.key == "feature_flag.key"))
        for event in span.events
    ]


def test_a_receiver_that_is_not_there_harms_nobody(start: Start) -> None:
    """Evaluation goes on, and the server still stops."""
    process = start("--demo", "--json", "--otlp-endpoint=http://127.0.0.1:1", "--trace-ratio=1")
    answer = evaluate(serving(process))

    assert ("banner", 0) == (answer["key"], stopped(process)[0])


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """At once, with exit code 1."""
    command = [sys.executable, "-c", WITHOUT_THE_EXTRA, "serve", "--otlp-endpoint=http://127.0.0.1:4318"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert (1, True) == (ended.returncode, 'pip install "flagstaff[otel]"' in ended.stderr)
    assert "Traceback" not in ended.stderr


def test_nothing_is_imported_when_it_is_off() -> None:
    """Nobody pays for what nobody asked for."""
    unused = ("opentelemetry", "alembic", "cryptography", "icalendar", "jwt")
    source = f"import server.app, server.cli.serve, sys; print([each for each in {unused} if each in sys.modules])"

    assert "[]\n" == python(source, where=ROOT).stdout
    assert set_up_tracing(None, ratio=1.0, environ={}) is None


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://otlp.example.com/custom/traces", "https://otlp.example.com/custom/traces"),
    ],
)
def test_where_traces_go(given: str, used: str) -> None:
    """As OpenTelemetry's exporters have it."""
    assert used == traces_url(given)


@pytest.mark.parametrize(
    "given",
    ["", "localhost:4318", "grpc://x:1", "http://", "http://x:99999", "http://user:s3cret@x", "http://x?key=s3cret"],
)
def test_an_endpoint_that_is_none(given: str) -> None:
    """It is refused; what it says may be a secret and is not repeated."""
    with pytest.raises(InvalidRequest) as caught:
        traces_url(given)

    assert "s3cret" not in str(caught.value)
