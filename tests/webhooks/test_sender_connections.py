"""Connections that must not be made, and those that cannot: addresses, names and certificates."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.tls.certificates import Authority, make_authority
from tests.webhooks.receiver import Receiver, receiving
from tests.webhooks.sending import LOOPBACK, PATIENCE_S, SHORT_S, TRUSTED, tried
from webhooks.addresses import Allowed, read_allowed
from webhooks.client import Client, Names, open_client


class Told(AbstractResolver):
    """Names that a test makes up; what it does not know is an error that the test chose."""

    def __init__(self, *answers: list[str] | OSError | None) -> None:
        self.answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
        """The next answer, the last one again and again; None never comes."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.sleep(PATIENCE_S)
        if isinstance(answer, OSError):
            raise answer
        return [
            ResolveResult(hostname=host, host=each, port=port, family=socket.AF_INET, proto=0, flags=0)
            for each in answer or []
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
async def receiver() -> Receiver:
    """Nothing has come yet."""
    return Receiver()


@pytest.fixture
async def port(receiver: Receiver) -> AsyncIterator[int]:
    """Where it listens."""
    async with receiving(receiver) as port:
        yield port


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """One that may reach the loopback address."""
    async with open_client(LOOPBACK, ssl_context=TRUSTED) as client:
        yield client


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the receivers' certificates."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "2130706433"]
)
async def test_nothing_is_sent_to_what_is_not_public(receiver: Receiver, port: int, host: str) -> None:
    """Whatever it is called; no connection is made."""
    async with open_client(Allowed()) as client:
        outcome = await tried(client, port, "/ok", url=f"http://{host}:{port}/ok")

    assert (None, 0) == (outcome.status_code, receiver.connections)
    assert "public" in outcome.error or "as it is set" in outcome.error


async def test_a_name_that_moves_inside_is_refused(receiver: Receiver, port: int) -> None:
    """What counts is the address at each connection, not the one that was looked up before."""
    async with open_client(LOOPBACK, resolver=Told(["127.0.0.1"], ["10.0.0.1"])) as client:
        first = await tried(client, port, "/close", url=f"http://moves.test:{port}/close")
        for session in client.sessions.values():
            assert session.connector is not None
            session.connector.clear_dns_cache()  # type: ignore[attr-defined]
        second = await tried(client, port, "/ok", url=f"http://moves.test:{port}/ok")

    assert "closed before an answer" in first.error
    assert "not public" in second.error


async def test_a_host_that_was_allowed_by_name_is_reached(receiver: Receiver, port: int) -> None:
    """Wherever it leads, but for metadata addresses."""
    allowed = read_allowed(["n8n.lan"])
    async with open_client(allowed, resolver=Told(["127.0.0.1"])) as client:
        inside = await tried(client, port, "/ok", url=f"http://n8n.lan:{port}/ok")
        other = await tried(client, port, "/ok", url=f"http://other.lan:{port}/ok")
    async with open_client(allowed, resolver=Told(["169.254.169.254"])) as client:
        metadata = await tried(client, port, "/ok", url=f"http://n8n.lan:{port}/ok")

    assert (200, None, None) == (inside.status_code, other.status_code, metadata.status_code)
    assert "not public" in metadata.error


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "could not be resolved: name or service"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "could not be resolved: temporary"),
        (None, "no connection within 0.4 s"),
        ([], "could not be resolved: no address"),
    ],
)
async def test_a_name_without_an_address_is_an_outcome(
    port: int, answer: list[str] | OSError | None, error: str
) -> None:
    """Unknown, failing, silent or empty."""
    async with open_client(LOOPBACK, resolver=Told(answer)) as client:
        outcome = await tried(client, port, "/ok", url=f"http://named.test:{port}/ok", timeout_s=SHORT_S)

    assert error in outcome.error


async def test_names_are_looked_up(port: int) -> None:
    """By the system, in threads of ours."""
    names = Names()
    found = await names.resolve("localhost", port)
    await names.close()

    assert {"127.0.0.1", "::1"} & {each["host"] for each in found}


def trusting(authority: Authority) -> ssl.SSLContext:
    """An operator's own authority."""
    return ssl.create_default_context(cafile=str(authority.own.certificate))


def proving(authority: Authority, name: str, *, days: int = 2) -> ssl.SSLContext:
    """What a receiver proves itself by."""
    pair = authority.sign(name, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


async def test_an_operators_own_authority_is_trusted(authority: Authority) -> None:
    """By a context of theirs; nobody else's receivers are."""
    receiver = Receiver()
    async with receiving(receiver, tls=proving(authority, "own")) as port:
        url = f"https://127.0.0.1:{port}/ok"
        async with open_client(LOOPBACK, ssl_context=trusting(authority)) as client:
            trusted = await tried(client, port, "/ok", url=url)
        async with open_client(LOOPBACK) as client:
            unknown = await tried(client, port, "/ok", url=url)

    assert (200, None) == (trusted.status_code, unknown.status_code)
    assert "its certificate is not trusted" in unknown.error
    assert 1 == len(receiver.requests)


@pytest.mark.parametrize(
    ("host", "days", "error"),
    [("127.0.0.1", -1, "certificate has expired"), ("other.test", 2, "Hostname mismatch")],
)
async def test_a_certificate_must_hold(authority: Authority, host: str, days: int, error: str) -> None:
    """For its host, now; nothing is sent before."""
    receiver = Receiver()
    async with (
        receiving(receiver, tls=proving(authority, host, days=days)) as port,
        open_client(LOOPBACK, ssl_context=trusting(authority), resolver=Told(["127.0.0.1"])) as client,
    ):
        outcome = await tried(client, port, "/ok", url=f"https://{host}:{port}/ok")

    assert error in outcome.error
    assert [] == receiver.requests


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x03\x00\x7a\x02", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_handshake_that_breaks_is_an_outcome(authority: Authority, sent: bytes) -> None:
    """Ended, cut off or answered in plain text."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_client(LOOPBACK, ssl_context=trusting(authority)) as client:
        outcome = await tried(client, port, "/ok", url=f"https://127.0.0.1:{port}/ok")

    assert None is outcome.status_code
    assert outcome.error in ("the TLS handshake failed", "no connection: connection reset by peer")
