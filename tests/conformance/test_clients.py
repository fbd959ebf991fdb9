"""Ask official clients in several languages the same questions, and hold that the application gets the same answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conformance.cases import same
from tests.conformance.installations import RPC_CLIENTS
from tests.conformance.processes import Driver, DriverOf, FlagSetFile, ServerOf
from tests.conformance.testbed import read

FLAGS: Final = Path(__file__).with_name("client_flags.json")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application gets."""

    value: Any
    variant: str | None
    reason: str
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What the application asks."""

    type: str
    key: str
    default: Any
    context: Mapping[str, Any] = field(default_factory=dict)


OBJECT: Final = {"title": "Pictures", "show": True, "sizes": [1, 2.5, None]}

TABLE: Final[Mapping[str, tuple[Question, Answer]]] = {
    "boolean": (Question("Boolean", "boolean", False), Answer(True, "on", "STATIC")),
    "string": (Question("String", "string", "-"), Answer("hi there", "hi", "STATIC")),
    "integer": (Question("Integer", "integer", 0), Answer(2147483647, "many", "STATIC")),
    "integer as float": (Question("Float", "integer", 0.5), Answer(2147483647, "many", "STATIC")),
    "float": (Question("Float", "float", 0.1), Answer(3.5, "more", "STATIC")),
    "float as integer": (Question("Integer", "float", 7), Answer(7, None, "ERROR", "TYPE_MISMATCH")),
    "object": (Question("Object", "object", {}), Answer(OBJECT, "set", "STATIC")),
    "targeted": (
        Question("Boolean", "targeted", False, {"targetingKey": "ann", "email": "ann@example.com"}),
        Answer(True, "on", "TARGETING_MATCH"),
    ),
    "not targeted": (
        Question("Boolean", "targeted", True, {"targetingKey": "bob", "email": "bob@example.org"}),
        Answer(False, "off", "DEFAULT"),
    ),
    "no context": (Question("Boolean", "targeted", True), Answer(False, "off", "DEFAULT")),
    # Bucket 8 and bucket 70 of 100: the vectors of flagd's high-precision bucketing.
    "first half": (
        Question("String", "flag", "-", {"targetingKey": "user-2"}),
        Answer("first", "first", "TARGETING_MATCH"),
    ),
    "second half": (
        Question("String", "flag", "-", {"targetingKey": "user-1"}),
        Answer("second", "second", "TARGETING_MATCH"),
    ),
    "disabled": (Question("Boolean", "disabled", True), Answer(True, None, "DISABLED")),
    "no default": (Question("String", "no-default", "mine"), Answer("mine", None, "DEFAULT")),
    "missing": (Question("Boolean", "missing", True), Answer(True, None, "ERROR", "FLAG_NOT_FOUND")),
    "wrong type": (Question("Boolean", "string", True), Answer(True, None, "ERROR", "TYPE_MISMATCH")),
    "no such variant": (Question("Boolean", "no-such-variant", True), Answer(True, None, "ERROR", "GENERAL")),
    "no such operator": (Question("Boolean", "no-such-operator", True), Answer(True, None, "ERROR", "PARSE_ERROR")),
}

DIFFERENCES: Final[Mapping[tuple[str, str], Answer]] = {
    # Node has one type of number and asks for a float, so a fraction is no mismatch there.
    ("node", "float as integer"): Answer(3.5, "more", "STATIC"),
    # Java speaks version 1, which sends the zero value of a disabled flag ...
    ("java", "disabled"): Answer(False, "", "DISABLED"),
    # ... and NOT_FOUND where only the caller's default is left.
    ("java", "no default"): Answer("mine", None, "ERROR", "FLAG_NOT_FOUND"),
}
"""What a client makes of the same answer for reasons of its own, each with the reason."""

STATUSES: Final = {
    "float as integer": "INVALID_ARGUMENT",
    "missing": "NOT_FOUND",
    "wrong type": "INVALID_ARGUMENT",
    "no such variant": "INTERNAL",
    "no such operator": "DATA_LOSS",
}
"""Of the cases that are not OK."""

WITHOUT_VALUE: Final = {"disabled", "no default"}
"""OK, and the caller's own default holds."""


@pytest.fixture(params=RPC_CLIENTS)
def driver(request: pytest.FixtureRequest, server_of: ServerOf, driver_of: DriverOf) -> Driver:
    """Every client in turn, over one server."""
    return driver_of(request.param, server_of("clients", [FlagSetFile(read(FLAGS))]), {"cache": "disabled"})


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """The name of the client that is asked."""
    return str(request.node.callspec.params["driver"])


def test_becomes_ready(driver: Driver) -> None:
    """The provider reaches READY: it has its event stream, and has been told to begin."""
    assert (True, None) == (driver.hello["ready"], driver.hello["error"])


@pytest.mark.parametrize("name", TABLE)
def test_answers_alike(driver: Driver, client: str, name: str) -> None:
    """The application gets the same value, variant, reason and error code in every language."""
    question, usual = TABLE[name]
    expected = DIFFERENCES.get((client, name), usual)

    details = driver.evaluate(question.type, question.key, default=question.default, context=question.context)

    actual = Answer(details["value"], details["variant"], details["reason"], details["errorCode"])
    assert same(expected.value, actual.value), details
    assert (expected.variant, expected.reason, expected.error_code) == (
        actual.variant, actual.reason, actual.error_code,
    ), details  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_statuses(server_of: ServerOf, driver_of: DriverOf, name: str) -> None:
    """A failure has the status that providers read; never UNKNOWN or UNAVAILABLE, which they retry for seconds."""
    question, _ = TABLE[name]
    driver = driver_of("wire", server_of("clients", [FlagSetFile(read(FLAGS))]), {"cache": "disabled"})

    details = driver.evaluate(question.type, question.key, default=question.default, context=question.context)

    assert STATUSES.get(name, "OK") == details["status"]
    assert (name in STATUSES or name in WITHOUT_VALUE) is details["absent"]


def test_every_difference_is_of_a_case() -> None:
    """No entry outlives the case that it is about."""
    assert {(client, name) for client, name in DIFFERENCES if client in RPC_CLIENTS and name in TABLE} == set(
        DIFFERENCES
    )
