"""Tokens and the server's key are nowhere but with their owners: all that a real server leaves behind is searched."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeAlias

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1 import tokens_pb2 as tokens
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.tokens_pb2_grpc import TokenServiceStub
from server.core.tokens import derived_key
from tests.cli.servers import FREE_PORTS, ROOT, TIMEOUT_S, serving, stopped

OVERLAP: Final = 20
"""As much of a secret in one piece counts as found; two random texts have never so much in common."""


class Receiver(ThreadingHTTPServer):
    """Takes what is sent as traces, as it is."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Keep the headers and the body."""
        self.server.bodies += [bytes(self.headers), self.rfile.read(int(self.headers["content-length"]))]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of traces."""
    server = Receiver()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@dataclass
class Searched:
    """What was left behind, by where."""

    places: dict[str, bytes] = field(default_factory=dict)

    def add(self, place: str, content: str | bytes) -> None:
        """Note something that a server has left or said."""
        raw = content.encode() if isinstance(content, str) else content
        self.places[place] = self.places.get(place, b"") + b"\n" + raw

    def add_files(self, directory: Path) -> None:
        """All files of a directory but the one that holds the key."""
        for path in sorted(directory.rglob("*")):
            if path.is_file() and not path.name.endswith(".secret-key"):
                self.add(path.name, path.read_bytes())

    def add_processes(self, *pids: int) -> None:
        """What `ps` shows of processes and their children."""
        for pid in pids:
            self.add(f"ps {pid}", Path(f"/proc/{pid}/cmdline").read_bytes())
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                self.add(f"ps {child}", Path(f"/proc/{child}/cmdline").read_bytes())

    def found(self, secret: bytes) -> list[str]:
        """Where a secret, or a good part of it, is: as it is, in base64, in hexadecimal, or hashed without a key."""
        forms = {secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)}
        parts = {form[place : place + OVERLAP] for form in forms for place in range(0, len(form) - OVERLAP, 4)}
        parts |= {hashlib.sha256(secret).hexdigest().encode(), hashlib.sha256(secret).digest()}
        return [place for place, content in self.places.items() if any(part in content for part in parts)]


Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
Command: TypeAlias = Callable[..., subprocess.Popen[str]]
"""(*arguments, **environment) -> a process of `flagstaff` over the test's database."""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Start commands, and kill them after the test."""
    processes: list[subprocess.Popen[str]] = []
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}
    database = {"PYTHONPATH": str(ROOT), "FLAGSTAFF_DATABASE_URL": f"sqlite:///{tmp_path / 'flags.db'}"}

    def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *arguments],
            cwd=tmp_path,
            env={**ours, **database, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc, where ps would look")
def test_secrets_are_nowhere(tmp_path: Path, receiver: Receiver, command: Command) -> None:
    """Database, WAL, last known good files, backup, logs, errors, traces and `ps`, with every line logged."""
    searched = Searched()
    server = begin(command, receiver)
    told = serving(server)
    admin = told.pop("admin_token")
    searched.add("standard output", json.dumps(told))
    searched.add_processes(server.pid)
    with grpc.insecure_channel(f"127.0.0.1:{told['grpc_port']}") as channel:
        made = use(channel, told, admin, searched)
    made |= use_command(command, told, admin, searched)
    searched.add("errors", command("backup", str(tmp_path / "flags.backup")).communicate(timeout=TIMEOUT_S)[1])
    searched.add_processes(server.pid)
    searched.add_files(tmp_path)
    _, out, err = stopped(server)
    searched.add("standard output", out)
    searched.add("log", err)
    searched.add_files(tmp_path)
    for place, body in enumerate(receiver.bodies):
        searched.add(f"traces {place}", body)
    key = (tmp_path / "flags.db.secret-key").read_bytes().strip()

    # Else nothing was searched where it matters.
    assert {"flags.db", "flags.db-wal", "flags.backup", "tokens.json", "log", "errors"} <= searched.places.keys()
    assert any(place.startswith("traces") for place in searched.places)
    assert b"token.created" in searched.places["flags.db"] + searched.places["flags.db-wal"]
    assert b"UNAUTHENTICATED" in searched.places["log"]
    for secret in (admin.encode(), *(text.encode() for text in made)):
        assert [] == searched.found(secret[13:]), secret[:13]
    for secret in (key, derived_key(key, "tokens")):
        assert [] == searched.found(secret)


@pytest.mark.parametrize("shown", [bytes, bytes.hex, base64.b64encode, lambda each: hashlib.sha256(each).hexdigest()])
def test_a_leak_is_found(shown: Callable[[bytes], Any]) -> None:
    """As it is, encoded, cut, or hashed without a key: what searches for secrets can find them."""
    searched, secret = Searched(), b"k3Jd92LqAbCdEfGhIjKlMnOpQrStUvWxYz0123456789ab"
    searched.add("log", shown(secret)[:70])
    searched.add("elsewhere", "nothing")

    assert ["log"] == searched.found(secret)


def begin(command: Command, receiver: Receiver) -> subprocess.Popen[str]:
    """A server that asks for tokens and says all that it can."""
    telling = ("--log-level=debug", "--log-json", "--access-log", "--slow=0", "--trace-ratio=1")
    traces = f"--otlp-endpoint=http://127.0.0.1:{receiver.server_port}"
    options = (*FREE_PORTS, "--demo", "--json", "--require-token", "--workers=2", *telling, traces)
    return command("serve", *options)


def use(channel: grpc.Channel, told: dict[str, Any], admin: str, searched: Searched) -> set[str]:
    """Make tokens of every kind, and use them rightly and wrongly, over gRPC and HTTP."""
    people: Any = TokenServiceStub(channel)
    flags: Any = EvaluationServiceStub(channel)

    def by(text: str) -> Metadata:
        return (("authorization", f"Bearer {text}"), ("x-request-id", "r1"))

    def make(role: Any) -> Any:
        request = tokens.CreateTokenRequest(name="t", roles=[tokens.RoleGrant(role=role)])
        return people.CreateToken(request, metadata=by(admin))

    made = [make(role) for role in (tokens.ROLE_EVALUATE_CLIENT, tokens.ROLE_EVALUATE, tokens.ROLE_READ)]
    turned = people.RotateToken(tokens.RotateTokenRequest(id=made[0].token.id), metadata=by(admin))
    people.RevokeToken(tokens.RevokeTokenRequest(id=made[2].token.id), metadata=by(admin))
    texts = [each.text for each in (*made, turned)]
    wait_until_known(flags, by(turned.text))
    for text in (*texts, texts[0][:-1], texts[1] + "x", f"{texts[1][:13]}{'0' * 49}"):
        wrong: tuple[Metadata, ...] = ((("authorization", text),), (("authorization", f"Basic {text}"),))
        for metadata in (by(text), *wrong):
            try:
                flags.Evaluate(messages.EvaluateRequest(flag_key="banner"), metadata=metadata)
                next(flags.Watch(messages.WatchRequest(), metadata=metadata))
            except grpc.RpcError as error:
                searched.add("errors", str(error.details()))
        for headers in ({"authorization": f"Bearer {text}"}, {"x-api-key": text}):
            searched.add("errors", post(told["http_port"], headers))
    searched.add("errors", str(people.ListTokens(tokens.ListTokensRequest(), metadata=by(admin))))
    return set(texts)


def wait_until_known(flags: Any, metadata: Metadata) -> None:
    """Wait until the workers know a new token."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        try:
            flags.Evaluate(messages.EvaluateRequest(flag_key="banner"), metadata=metadata)
            return
        except grpc.RpcError:
            time.sleep(0.05)
    raise AssertionError("the token is not known in time")


def post(port: int, headers: dict[str, str]) -> bytes:
    """An evaluation over HTTP; what came back."""
    url = f"http://127.0.0.1:{port}/ofrep/v1/evaluate/flags/banner"
    request = urllib.request.Request(url, b"{}", {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            return bytes(reply.headers) + bytes(reply.read())
    except urllib.error.HTTPError as error:
        return bytes(error.headers) + error.read()


def use_command(command: Command, told: dict[str, Any], admin: str, searched: Searched) -> set[str]:
    """Make tokens by the command line, on the server and on the database; one of them is refused."""
    remote = {"FLAGSTAFF_SERVER": f"127.0.0.1:{told['grpc_port']}", "FLAGSTAFF_TOKEN": admin}
    local = "--database-url=sqlite:///flags.db"
    commands = [
        command("token", "create", "a", "--role=read", **remote),
        command("token", "create", "b", "--role=read", local),
        command("token", "create", "c", "--role=root", **remote),
    ]
    found = set()
    for each in commands:
        searched.add_processes(each.pid)
        out, err = each.communicate(timeout=TIMEOUT_S)
        searched.add("errors", err)
        found.add(out.strip())
    assert 3 == len(found)
    return found - {""}
