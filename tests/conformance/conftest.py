"""Start servers and clients, and define the steps of flagd-testbed's features over them."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from pytest_bdd import given, parsers, then, when
from pytest_bdd.scenario import scenario_wrapper_template_registry

from tests.conformance import launchpad as launchpads
from tests.conformance import live, testbed
from tests.conformance.cases import Case, converted, option, same
from tests.conformance.certificates import Certificates, make_certificates
from tests.conformance.installations import command
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
from tests.conformance.suites import LIVE, RUNS, Suite, feature_of

SERVERS: Final[Mapping[str, Callable[[], list[FlagSetFile]]]] = {
    "evaluator": lambda: [FlagSetFile(testbed.evaluator_flags())],
    "v2": lambda: launchpads.flag_sets("v2"),
    "v3": lambda: launchpads.flag_sets("v3"),
}
"""What each server serves. A client that names no flag set gets default/production."""

Watch: TypeAlias = Callable[[str, Mapping[str, Any]], Driver]
"""(kind of provider, options) -> the client, connected and watching."""

LOGS: Final = pytest.StashKey[list[Path]]()

collect_ignore_glob = [] if testbed.PRESENT else ["test_*_client.py", "test_restart.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the features' tags, which pytest-bdd turns into marks."""
    config.stash[LOGS] = []
    for tag in sorted(testbed.tags()):
        config.addinivalue_line("markers", f"{tag}: a tag of flagd-testbed's features")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a client does not run, and expect the failures that are its own."""
    excluded = {item for item in items if _why_not(item) != RUNS}
    if excluded:
        config.hook.pytest_deselected(items=list(excluded))
        items[:] = [item for item in items if item not in excluded]
    for item in items:
        if (suite := _suite_of(item)) and (reason := suite.differences.get(item.name)):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _why_not(item: pytest.Item) -> str:
    suite = _suite_of(item)
    if suite is None:
        return RUNS
    return suite.why_not(_feature_of(item), {mark.name for mark in item.iter_markers()})


def _suite_of(item: pytest.Item) -> Suite | None:
    # Other folders' modules know no suites.
    return getattr(getattr(item, "module", None), "SUITE", None) if Path(__file__).parent in item.path.parents else None


def _feature_of(item: Any) -> str:
    return feature_of(scenario_wrapper_template_registry[item.obj].feature.filename)


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

        def get(client: str, server: Server | None, options: Mapping[str, Any]) -> Driver:
            port = live.port_of(options.get("resolver", "rpc"), server.ports) if server else None
            key = (client, port or 0, str(sorted(options.items())))
            if key not in started:
                log = folder / f"{client}-{len(started)}.log"
                started[key] = start_driver(command(client), options, port=port, log=log)
                stack.callback(started[key].stop)
                pytestconfig.stash[LOGS].append(log)
            return started[key]

        yield get


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority of our own, and what it signed."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def launchpad(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[launchpads.ServedLaunchpad]:
    """A server that features start, lose and change."""
    made = launchpads.Launchpad(tmp_path_factory.mktemp("launchpad"), bucketing="v2", certificates=certificates)
    with launchpads.serve(made) as served:
        yield served


@pytest.fixture(scope="session")
def forbidding_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where every call is refused."""
    with live.forbidding_server(tmp_path_factory.mktemp("forbidden") / "server.log") as port:
        yield port


@pytest.fixture
def suite(request: pytest.FixtureRequest) -> Suite:
    """What the module that runs has to run."""
    declared: Suite = request.module.SUITE
    return declared


@pytest.fixture
def case(request: pytest.FixtureRequest, suite: Suite) -> Case:
    """The scenario that runs: what was given so far, and what came of it."""
    return Case(bucketing="v3" if request.node.get_closest_marker("fractional-v3") else suite.bucketing)


@pytest.fixture
def watch(request: pytest.FixtureRequest, suite: Suite, tmp_path: Path) -> Iterator[Watch]:
    """Connect a provider of a kind, whose server stands on the launchpad, for the length of one scenario."""
    log, logs = tmp_path / "client.log", request.config.stash[LOGS]
    with ExitStack() as stack:

        def connect(kind: str, options: Mapping[str, Any]) -> Driver:
            certificates = request.getfixturevalue("certificates")
            port = _port_for(kind, request, suite=suite)
            standing = live.options_of(kind, suite.mode, port=port, certificates=certificates)
            driver = start_driver(command(suite.client), {**standing, **options}, port=port, log=log)
            stack.callback(driver.stop)
            logs.append(log)
            stack.callback(logs.remove, log)
            if kind in live.CONFIGS:
                driver.wait_until_ready(timeout_s=live.READY_TIMEOUT_S)
            return driver

        yield connect


def _port_for(kind: str, request: pytest.FixtureRequest, *, suite: Suite) -> int:
    if kind == "unavailable":
        return live.unavailable_port()
    if kind == "forbidden":
        return int(request.getfixturevalue("forbidding_port"))
    served: launchpads.ServedLaunchpad = request.getfixturevalue("launchpad")
    served.post(f"start?config={live.CONFIGS[kind]}")
    return live.port_of(suite.mode, served.launchpad.ports)


@given(parsers.re(r'an option "(?P<name>[^"]*)" of type "(?P<type_>[^"]*)" with value "(?P<value>.*)"'))
def an_option(case: Case, name: str, type_: str, value: str) -> None:
    """Set an option of the provider."""
    case.options[name] = option(type_, value)


@given(parsers.re(r"an? (?P<kind>stable|metadata|ssl|syncpayload|unavailable|forbidden) flagd provider"))
def a_provider(case: Case, kind: str, request: pytest.FixtureRequest) -> None:
    """Choose the server. A provider that watches connects now, another one when it is first asked."""
    if _feature_of(request.node) in LIVE:
        case.driver = request.getfixturevalue("watch")(kind, case.options)
    else:
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
def evaluate(case: Case, suite: Suite, server_of: ServerOf, driver_of: DriverOf) -> None:
    """Ask the client of the module that runs."""
    if case.driver is None:
        options = case.options if suite.mode == "rpc" else {**case.options, "resolver": suite.mode}
        case.driver = driver_of(suite.client, server_of(case.server, SERVERS[case.server]()), options)
    case.details = case.driver.evaluate(case.type, case.key, default=case.default, context=case.context)


@then(parsers.re(r'the resolved details value should be "(?P<value>.*)"'))
def value_is(case: Case, value: str) -> None:
    """Compare the value that the application gets."""
    assert same(converted(case.type, value), case.details["value"]), case.details


@then(parsers.re(r'the variant should be "(?P<variant>.*)"'))
def variant_is(case: Case, variant: str) -> None:
    """Compare the variant."""
    assert case.details["variant"] == variant, case.details


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


@given(parsers.re(r"an? (?P<event>ready|error|stale|change) event handler"))
def an_event_handler(case: Case, event: str) -> None:
    """Watch from now on; the present state counts as an event."""
    case.client.handle(event)


@when(parsers.re(r"an? (?P<event>ready|error|stale|change) event was fired"))
@then(parsers.re(r"the (?P<event>ready|error|stale|change) event handler should have been executed"))
def event_fired(case: Case, event: str) -> None:
    """Wait for the event; it has to come after those that the scenario has named before."""
    _take(case, event, timeout_s=live.EVENT_TIMEOUT_S)


@then(parsers.re(r"the (?P<event>\w+) event handler should have been executed within (?P<within_ms>\d+)ms"))
def event_fired_within(case: Case, event: str, within_ms: str) -> None:
    """Wait for the event no longer than the scenario says."""
    _take(case, event, timeout_s=int(within_ms) / 1000)


def _take(case: Case, event: str, *, timeout_s: float) -> None:
    taken = case.client.take(event, timeout_s=timeout_s)
    assert taken is not None, f"no {event} event within {timeout_s} s; the provider is {case.client.status()}"
    case.event = taken


@when(parsers.re(r"the connection is lost for (?P<seconds>\d+)s"))
def lose_connection(launchpad: launchpads.ServedLaunchpad, seconds: str) -> None:
    """Kill the server; it is started again in the background."""
    launchpad.post(f"restart?seconds={seconds}")


@when("the flag was modified")
def modify_flag(case: Case, launchpad: launchpads.ServedLaunchpad) -> None:
    """Commit a change beside the running server; what was announced before is another change."""
    time.sleep(live.SETTLE_S)
    case.client.forget()
    launchpad.post("change")


@then("the flag should be part of the event payload")
def event_names_flag(case: Case) -> None:
    """The change event tells which flags changed."""
    assert case.key in case.event["flags"], case.event


@then(parsers.re(r"the client should be in (?P<status>\w+) state"))
def client_is(case: Case, status: str) -> None:
    """Compare the provider's state."""
    assert case.client.status() == status.upper()


@given(parsers.re(r'an environment variable "(?P<name>[^"]*)" with value "(?P<value>.*)"'))
def an_environment_variable(case: Case, name: str, value: str) -> None:
    """Set a variable for the provider."""
    case.environment[name] = value


@when("a config was initialized")
def initialize_config(case: Case, suite: Suite, driver_of: DriverOf) -> None:
    """Ask the provider what it makes of its options and variables; it connects to nothing."""
    driver = driver_of(suite.client, None, {})
    case.config = driver.ask("config", environment=case.environment, options=case.options)


@then(parsers.re(r'the option "(?P<name>[^"]*)" of type "(?P<type_>[^"]*)" should have the value "(?P<value>.*)"'))
def option_is(case: Case, name: str, type_: str, value: str) -> None:
    """Compare an option; the provider writes its enumerations in small letters."""
    assert case.config["config"] is not None, case.config
    assert option(type_, value) == case.config["config"][name]
