"""Official clients send a token to a server that asks everyone for one, by TLS where that is the only way."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from server.core.access import Grant, Role
from server.keys import secret_key
from server.operations.tokens import SERVER, NewToken, Tokens
from server.store.engine import open_engine
from tests.conformance import installations, live, ofrep
from tests.conformance.certificates import Certificates
from tests.conformance.processes import (
    HOST,
    Driver,
    FlagSetFile,
    Server,
    import_flags,
    serve_database,
    start_driver,
)
from tests.conformance.test_clients import FLAGS
from tests.conformance.testbed import read
from tests.rpc.access import as_admin

GRPC_CLIENTS: Final = [
    ("python", "rpc"),
    ("python", "in-process"),
    ("node", "rpc"),
    ("node", "in-process"),
    ("java", "rpc"),
    ("java", "in-process"),
    ("go", "in-process"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with flags, and the logs of everyone."""
    made = tmp_path_factory.mktemp("tokens")
    import_flags(made / "flags.json", FlagSetFile(read(FLAGS)), database=database_in(made))
    return made


def database_in(folder: Path) -> str:
    """Its address."""
    return f"sqlite:///{folder / 'flags.db'}"


def token_of(folder: Path, role: Role) -> str:
    """A new one."""
    engine = open_engine(database_in(folder))
    try:
        secret = secret_key(engine, make=True)
        assert secret is not None
        return Tokens(engine, lambda: secret).create(NewToken("client", (Grant(role),), SERVER), as_admin()).text
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def secure(folder: Path, certificates: Certificates) -> Iterator[Server]:
    """A server by TLS."""
    options = ["--require-token", "--tls-cert", str(certificates.server), "--tls-key", str(certificates.key)]
    running = serve_database(folder, database_in(folder), options=options)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Server]:
    """A server by plain HTTP, as behind a proxy that has TLS, for pages of any origin."""
    running = serve_database(folder, database_in(folder), options=["--require-token", "--cors-origin", "*"])
    yield running
    running.stop()


def answer(driver: Driver) -> tuple[object, ...]:
    """What the application sees."""
    try:
        details = driver.evaluate("String", "string", default="mine", context={"targetingKey": "ann"})
    finally:
        driver.stop()
    return driver.hello["error"], details["value"], details["reason"], details["errorCode"]


@pytest.mark.parametrize(("client", "resolver"), GRPC_CLIENTS)
def test_a_grpc_client_with_a_token(
    secure: Server, folder: Path, certificates: Certificates, client: str, resolver: str
) -> None:
    """It becomes ready and evaluates; in-process it needs no more than `evaluate` either."""
    options = {"tls": True, "certPath": str(certificates.authority), "resolver": resolver}
    token, log = token_of(folder, Role.EVALUATE), folder / f"{client}-{resolver}.log"
    command, port = installations.command(client), live.port_of(resolver, secure.ports)
    driver = start_driver(command, {**options, "token": token}, port=port, log=log)

    assert (None, "hi there", "STATIC", None) == answer(driver)
    assert token not in secure.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("client", list(ofrep.COMMANDS))
def test_an_ofrep_client_with_a_token(plain: Server, folder: Path, client: str) -> None:
    """As a header that its application gives it; `evaluate-client` is enough, also for a page."""
    options = {"token": token_of(folder, Role.EVALUATE_CLIENT)}
    driver = start_driver(ofrep.command(client), options, port=plain.ports.http, log=folder / f"{client}.log")

    assert (None, "hi there", "STATIC", None) == answer(driver)


def test_nobody_gets_in_without_one(secure: Server, plain: Server, certificates: Certificates) -> None:
    """So it was the token that the clients above got in by."""
    credentials = grpc.ssl_channel_credentials(certificates.authority.read_bytes())
    channel = grpc.secure_channel(f"{HOST}:{secure.port}", credentials)
    with channel, pytest.raises(grpc.RpcError) as refused:
        EvaluationServiceStub(channel).Evaluate(messages.EvaluateRequest(flag_key="string"))
    url = f"http://{HOST}:{plain.ports.http}/ofrep/v1/evaluate/flags"
    with pytest.raises(urllib.error.HTTPError) as denied, urllib.request.urlopen(url, data=b"{}"):
        pass

    assert ("UNAUTHENTICATED", 401) == (refused.value.code().name, denied.value.code)
    denied.value.close()
