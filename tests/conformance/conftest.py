"""Start servers and clients, and define the steps of flagd-testbed's features over them."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_bdd import given, parsers, then, when

from tests.conformance import testbed
from tests.conformance.cases import Case, converted, same
from tests.conformance.installations import COMMANDS, Unavailable
from tests.conformance.processes import (
    Driver,
    DriverOf,
    FlagSetFile,
    Server,
    ServerOf,
    start_driver,
    start_server,
    tail,
)

SERVERS: Final[Mapping[str, Callable[[], list[FlagSetFile]]]] = {
    "evaluator": lambda: [FlagSetFile(testbed.evaluator_flags())],
    "v2": lambda: [
        FlagSetFile(testbed.all_flags(), source=testbed.ALL_SOURCE),
        FlagSetFile(testbed.selector_flags(), "selector", source=testbed.SELECTOR_SOURCE),
        FlagSetFile(testbed.combined_flags(), "combined", source=testbed.COMBINED_SOURCE),
    ],
    "v3": lambda: [FlagSetFile(testbed.all_flags(), source=testbed.ALL_SOURCE, bucketing="v3")],
}
"""What each server serves. A client that names no flag set gets default/production."""

LOGS: Final = pytest.StashKey[list[Path]]()

collect_ignore = [] if testbed.PRESENT else [f"test_{client}_client.py" for client in COMMANDS]


def pytest_configure(config: pytest.Config) -> None:
    """Register the features' tags, which pytest-bdd turns into marks."""
    config.stash[LOGS] = []
    for tag in sorted(testbed.tags()):
        config.addinivalue_line("markers", f"{tag}: a tag of flagd-testbed's features")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what no client runs, and expect the failures that are a client's own."""
    excluded = [item for item in items if _is_excluded(item)]
    if excluded:
        config.hook.pytest_deselected(items=excluded)
        items[:] = [item for item in items if item not in excluded]
    for item in items:
        if reason := _of_module(item, "DIFFERENCES").get(item.name):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _is_excluded(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(tag) for tag in _of_module(item, "EXCLUDED"))


def _of_module(item: pytest.Item, name: str) -> Mapping[str, str]:
    return getattr(getattr(item, "module", None), name, {}) if Path(__file__).parent in item.path.parents else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the logs of the running servers and clients with a failure."""
    report = yield
    if report.failed:
        for log in item.config.stash[LOGS]:
            report.sections.append((str(log.name), tail(log)))
    return report


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[ServerOf]:
    """Servers by name, each started when it is first asked for."""
    with ExitStack() as stack:
        started: dict[str, Server] = {}

        def get(name: str, flag_sets: Sequence[FlagSetFile]) -> Server:
            if name not in started:
                started[name] = start_server(tmp_path_factory.mktemp(f"server-{name}"), flag_sets)
                stack.callback(started[name].stop)
                pytestconfig.stash[LOGS].append(started[name].log)
            return started[name]

        yield get


@pytest.fixture(scope="session")
def driver_of(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[DriverOf]:
    """Clients by name, server and options, each started when it is first asked for."""
    folder = tmp_path_factory.mktemp("clients")
    with ExitStack() as stack:
        started: dict[tuple[str, int, str], Driver] = {}

        def get(client: str, server: Server, options: Mapping[str, Any]) -> Driver:
            key = (client, server.port, str(sorted(options.items())))
            if key not in started:
                log = folder / f"{client}-{len(started)}.log"
                started[key] = start_driver(_command(client), options, port=server.port, log=log)
                stack.callback(started[key].stop)
                pytestconfig.stash[LOGS].append(log)
            return started[key]

        yield get


def _command(client: str) -> list[str]:
    found = _installed(client)
    if isinstance(found, list):
        return found
    # In CI nothing is left out in silence.
    if os.environ.get("CI") == "true":
        raise found
    pytest.skip(f"the {client} client cannot be had here: {found}")


@cache
def _installed(client: str) -> list[str] | Unavailable:
    # A registry that cannot be reached is asked once, not once a case.
    try:
        return COMMANDS[client]()
    except Unavailable as error:
        return error


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The scenario that runs: what was given so far, and what came of it."""
    return Case(bucketing="v3" if request.node.get_closest_marker("fractional-v3") else "v2")


@given(parsers.re(r'an option "(?P<name>[^"]*)" of type "[^"]*" with value "(?P<value>.*)"'))
def an_option(case: Case, name: str, value: str) -> None:
    """Set an option of the provider."""
    case.options[name] = value


@given("a stable flagd provider")
@given("a metadata flagd provider")
def a_provider(case: Case) -> None:
    """Choose the server; the client starts when all of its options are known."""
    case.server = case.bucketing


@given("an evaluator")
def an_evaluator(case: Case) -> None:
    """Choose the server of the evaluator suite."""
    case.server = "evaluator"


@given(
    parsers.re(r'an? (?P<type_>\w+)-flag with key "(?P<key>[^"]*)" and a (?:default|fallback) value "(?P<default>.*)"')
)
def a_flag(case: Case, type_: str, key: str, default: str) -> None:
    """Name the flag, its type and the caller's default."""
    case.type, case.key, case.default = type_, key, converted(type_, default)


@given(
    parsers.re(
        r'a context containing a key "(?P<key>[^"]*)", with type "(?P<type_>\w+)" and with value "(?P<value>.*)"'
    )
)
def a_context_key(case: Case, key: str, type_: str, value: str) -> None:
    """Add an attribute to the context."""
    case.context[key] = converted(type_, value)


@given(parsers.re(r'a context containing a targeting key with value "(?P<value>.*)"'))
def a_targeting_key(case: Case, value: str) -> None:
    """Name the unit."""
    case.context["targetingKey"] = value


@given(
    parsers.re(
        r'a context containing a nested property with outer key "(?P<outer>[^"]*)" and inner key "(?P<inner>[^"]*)",'
        r' with value "(?P<value>.*)"'
    )
)
def a_nested_property(case: Case, outer: str, inner: str, value: str) -> None:
    """Add an attribute that is an object of one member."""
    case.context[outer] = {inner: value}


@when("the flag was evaluated with details")
def evaluate(case: Case, request: pytest.FixtureRequest, server_of: ServerOf, driver_of: DriverOf) -> None:
    """Ask the client of the module that runs."""
    server = server_of(case.server, SERVERS[case.server]())
    driver = driver_of(request.module.CLIENT, server, case.options)
    case.details = driver.evaluate(case.type, case.key, default=case.default, context=case.context)


@then(parsers.re(r'the resolved details value should be "(?P<value>.*)"'))
def value_is(case: Case, value: str) -> None:
    """Compare the value that the application gets."""
    assert same(converted(case.type, value), case.details["value"]), case.details


@then(parsers.re(r'the reason should be "(?P<reason>.*)"'))
def reason_is(case: Case, reason: str) -> None:
    """Compare the reason."""
    assert case.details["reason"] == reason, case.details


@then(parsers.re(r'the error-code should be "(?P<code>.*)"'))
def error_code_is(case: Case, code: str) -> None:
    """Compare the error code; an empty one means none."""
    assert case.details["errorCode"] == (code or None), case.details


@then("the resolved metadata should contain")
def metadata_contains(case: Case, datatable: list[list[str]]) -> None:
    """Compare the metadata, of the flag set and of the flag, row by row."""
    expected = {key: converted(type_, value) for key, type_, value in datatable[1:]}
    actual = case.details["metadata"]
    assert {key for key in expected if key in actual and same(expected[key], actual[key])} == set(expected), actual


@then("the resolved metadata is empty")
def metadata_is_empty(case: Case) -> None:
    """There is none."""
    assert case.details["metadata"] == {}
