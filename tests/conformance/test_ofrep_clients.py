"""Ask the official OFREP clients what the gRPC clients are asked, over one real server."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import ofrep
from tests.conformance.cases import same
from tests.conformance.processes import (
    Driver,
    FlagSetFile,
    Server,
    import_flags,
    serve_database,
    start_driver,
)
from tests.conformance.test_clients import FLAGS, TABLE, Answer
from tests.conformance.testbed import read

CHANGE_TIMEOUT_S: Final = 30.0

DIFFERENCES: Final[Mapping[tuple[str, str], Answer]] = {
    # Python compares types: the integer flag's 2147483647 is no float, the float flag's 3.5 no integer.
    ("ofrep-python", "integer as float"): Answer(0.5, None, "ERROR", "TYPE_MISMATCH"),
    # Python reads the variant of every success, and there is none where the caller's own default holds.
    ("ofrep-python", "disabled"): Answer(True, None, "ERROR", "GENERAL"),
    ("ofrep-python", "no default"): Answer("mine", None, "ERROR", "GENERAL"),
    # JavaScript has one type of number.
    ("ofrep-node", "float as integer"): Answer(3.5, "more", "STATIC"),
    ("ofrep-web", "float as integer"): Answer(3.5, "more", "STATIC"),
    # Node's 0.1.3 is older than OFREP 0.3.0: a success without a value is nothing to it.
    ("ofrep-node", "disabled"): Answer(True, None, "ERROR", "GENERAL"),
    ("ofrep-node", "no default"): Answer("mine", None, "ERROR", "GENERAL"),
}
"""What a client makes of the same answer for reasons of its own, each with the reason."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's database, its log and the clients' logs are."""
    return tmp_path_factory.mktemp("ofrep")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A server that lets pages of any origin ask."""
    import_flags(folder / "flags.json", FlagSetFile(read(FLAGS)), database=_database(folder))
    running = serve_database(folder, _database(folder), options=["--cors-origin", "*"])
    yield running
    running.stop()


@pytest.fixture(scope="module", params=list(ofrep.COMMANDS))
def client(request: pytest.FixtureRequest) -> str:
    """Every client in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def driver(client: str, server: Server, folder: Path) -> Iterator[Driver]:
    """The running client."""
    log = folder / f"{client}.log"
    running = start_driver(ofrep.command(client), {}, port=server.ports.http, log=log)
    yield running
    running.stop()


def _database(folder: Path) -> str:
    return f"sqlite:///{folder / 'flags.db'}"


def test_becomes_ready(driver: Driver) -> None:
    """The provider reaches READY."""
    assert (True, None) == (driver.hello["ready"], driver.hello["error"])


@pytest.mark.parametrize("name", TABLE)
def test_answers_alike(driver: Driver, client: str, name: str) -> None:
    """The application gets what it gets over gRPC: value, variant, reason and error code."""
    question, usual = TABLE[name]
    expected = DIFFERENCES.get((client, name), usual)

    details = driver.evaluate(question.type, question.key, default=question.default, context=question.context)

    actual = Answer(details["value"], details["variant"], details["reason"], details["errorCode"])
    assert same(expected.value, actual.value), details
    assert (expected.variant, expected.reason, expected.error_code) == (
        actual.variant, actual.reason, actual.error_code,
    ), details  # fmt: skip


def test_every_difference_is_of_a_case() -> None:
    """No entry outlives the case that it is about."""
    assert {(client, name) for client, name in DIFFERENCES if client in ofrep.COMMANDS and name in TABLE} == set(
        DIFFERENCES
    )


@pytest.mark.parametrize("client", ["ofrep-web"], scope="module")
def test_a_page_may_ask_conditionally(driver: Driver) -> None:
    """A page of another origin reads the entity tag, and sends it back with credentials: 304."""
    assert [200, 304] == driver.ask("askTwice")["statuses"]


def test_a_page_is_told_of_a_change(server: Server, folder: Path) -> None:
    """A browser's page that evaluates nothing anew gets the changed value: event, evaluation, change event."""
    log = folder / "change.log"
    flags = json.loads(FLAGS.read_text(encoding="utf-8"))
    running = start_driver(
        ofrep.command("ofrep-web"), {"context": {"targetingKey": "ann"}}, port=server.ports.http, log=log
    )
    try:
        before = running.evaluate("Boolean", "boolean", default=False, context={"targetingKey": "ann"})
        flags["flags"]["boolean"]["defaultVariant"] = "off"
        import_flags(folder / "changed.json", FlagSetFile(flags), database=_database(folder))
        change = running.take("change", timeout_s=CHANGE_TIMEOUT_S)
        after = running.evaluate("Boolean", "boolean", default=True, context={"targetingKey": "ann"})
    finally:
        running.stop()

    assert (True, {"flags": ["boolean"]}, False) == (before["value"], change, after["value"])
