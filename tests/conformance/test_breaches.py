"""A release that takes itself back, as a team would see it: a real Prometheus, official clients, the trail after it.

Two flags go from 1 to 100 % in some seconds. When the first has 10 %, errors begin. The policy of one enforces: its
release goes back by itself, for every client. The policy of the other is a shadow: its release goes on to the end, and
the trail says what would have been done.
"""

import http.server
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import grpc
import pytest
from google.protobuf import json_format

from protos.flagstaff.v1 import audit_pb2, guards_pb2, releases_pb2
from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub
from protos.flagstaff.v1.guards_pb2_grpc import GuardServiceStub
from protos.flagstaff.v1.releases_pb2_grpc import ReleaseServiceStub
from server.store.engine import open_engine
from tests import prometheus
from tests.announced import announced, check_announced
from tests.conformance.processes import HOST, Driver, DriverOf, FlagSetFile, Server, import_flags, serve_database
from tests.conformance.test_releases import CLIENTS, UNITS
from tests.conformance.testbed import ROOT

ENFORCED: Final = "new-checkout"
SHADOWED: Final = "new-search"
KEYS: Final = (ENFORCED, SHADOWED)
STEP_S: Final = 3.0
"""From the breach to the last step there are three of them: a scrape, a look of the guard and the way back take three
seconds on a quiet machine."""

BREACH_AT: Final = 10.0
"""Percent."""

TIMEOUT_S: Final = 120.0
RULE: Final = {"id": "everybody", "serve": "on", "share": {"percent": 0}}
FLAG: Final = {"variants": {"on": True, "off": False}, "default": "off", "offVariant": "off", "rules": [RULE]}


class Exporter(http.server.BaseHTTPRequestHandler):
    """What a service tells of itself."""

    errors: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        """Answer a scrape."""
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(f"# TYPE error_rate gauge\nerror_rate {self.errors}\n".encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def exporter() -> Iterator[str]:
    """Where it can be scraped."""
    server = http.server.ThreadingHTTPServer((HOST, 0), Exporter)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"{HOST}:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(slots=True)
class Story:
    """What was seen of it, and what stayed of it."""

    database: str
    port: int
    releases: dict[str, releases_pb2.GetReleaseResponse] = field(default_factory=dict)
    seen: dict[tuple[str, str], list[frozenset[str]]] = field(default_factory=dict)
    """(client, flag) -> whom it let in, look by look."""

    breached_at_percent: float = 0.0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, driver_of: DriverOf) -> Iterator[Story]:
    """All of it, once, from the first step to the last."""
    prometheus.require()
    folder = tmp_path_factory.mktemp("breaches")
    database = f"sqlite:///{folder / 'flags.db'}"
    import_flags(folder / "flags.json", FlagSetFile({"flags": dict.fromkeys(KEYS, FLAG)}), database=database)
    Exporter.errors = 0.0
    with ExitStack() as stack:
        address = stack.enter_context(prometheus.running(folder, target=stack.enter_context(exporter())))
        server = serve_database(folder, database, options=["--provider", f"prometheus=prometheus:{address}"])
        stack.callback(server.stop)
        told = Story(database, server.port)
        tell(told, dict(drivers(driver_of, server)))
        yield told


def drivers(driver_of: DriverOf, server: Server) -> Iterable[tuple[str, Driver]]:
    """The clients that are here; Python's always are."""
    for name, (client, options) in CLIENTS.items():
        try:
            yield name, driver_of(client, server, options)
        except pytest.skip.Exception:
            continue


def tell(story: Story, clients: Mapping[str, Driver]) -> None:
    """Let both releases go, begin the errors at ten percent, and look until both are over and all clients know it."""
    with grpc.insecure_channel(f"{HOST}:{story.port}") as channel:
        releases: Any = ReleaseServiceStub(channel)
        for key, mode in ((ENFORCED, "MODE_ENFORCE"), (SHADOWED, "MODE_SHADOW")):
            watched(channel, key, mode)
        ids = {key: begun(releases, key) for key in KEYS}
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            for (name, driver), key in itertools.product(clients.items(), KEYS):
                found = let_in(driver, key)
                if found is not None:
                    story.seen.setdefault((name, key), []).append(found)
            for key, id in ids.items():
                story.releases[key] = releases.GetRelease(releases_pb2.GetReleaseRequest(project="default", id=id))
            percent = share_of(story.releases[ENFORCED])
            if not story.breached_at_percent and percent >= BREACH_AT:
                story.breached_at_percent, Exporter.errors = percent, 0.5
            if is_over(story, clients):
                return
    raise AssertionError(f"after {TIMEOUT_S} s: {story.releases}, {[way[-1] for way in story.seen.values()]}")


def is_over(story: Story, clients: Mapping[str, Driver]) -> bool:
    """Whether both releases have ended, and each client has the last word."""
    states = [each.release.state for each in story.releases.values()]
    ends = [releases_pb2.RELEASE_STATE_ROLLED_BACK, releases_pb2.RELEASE_STATE_COMPLETED]
    last = {ENFORCED: frozenset[str](), SHADOWED: frozenset(UNITS)}
    return states == ends and all(story.seen[name, key][-1] == last[key] for name in clients for key in KEYS)


def watched(channel: grpc.Channel, key: str, mode: str) -> None:
    """A guard that asks Prometheus each second, and a policy that acts on it."""
    guards: Any = GuardServiceStub(channel)
    guard = {
        **{"key": key, "environment": "production", "provider": "prometheus", "query": "error_rate"},
        **{"intervalS": 1.0, "high": 0.1},
    }
    request = json_format.ParseDict({"project": "default", "guard": guard}, guards_pb2.CreateGuardRequest())
    guards.CreateGuard(request)
    policy = {
        **{"key": key, "environment": "production", "mode": mode, "aim": "AIM_ANCHOR"},
        "triggers": [{"kind": "KIND_METRIC", "name": key}],
        "reach": {"kind": "KIND_FLAG", "key": key},
    }
    asked = {"project": "default", "policy": policy}
    guards.CreateRollbackPolicy(json_format.ParseDict(asked, guards_pb2.CreateRollbackPolicyRequest()))


def begun(releases: Any, key: str) -> str:
    """The id of a release of 1, 2, 5, 10 ... 100 % that has started."""
    recipe = {
        **{"environment": "production", "flagKey": key, "ruleId": "everybody", "geometric": {}},
        "gates": {"minimum": f"{STEP_S}s"},
    }
    asked = {"project": "default", "plan": {"name": key}, "progressive": recipe}
    id: str = releases.CreateRelease(json_format.ParseDict(asked, releases_pb2.CreateReleaseRequest())).release.id
    releases.StartRelease(releases_pb2.StartReleaseRequest(project="default", id=id))
    return id


def share_of(detail: releases_pb2.GetReleaseResponse) -> float:
    """Percent that the newest step has set."""
    percents = (0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0)
    return percents[min(detail.release.step, len(percents) - 1)]


def let_in(driver: Driver, key: str) -> frozenset[str] | None:
    """Whom a client's application lets in; None while its client has no answer."""
    question = {"type": "Boolean", "key": key, "default": False}
    questions = [{**question, "context": {"targetingKey": unit}} for unit in UNITS]
    answers = driver.ask("evaluateMany", questions=questions)["answers"]
    if any(each.get("errorCode") for each in answers):
        return None
    return frozenset(unit for unit, answer in zip(UNITS, answers, strict=True) if answer["value"])


def test_every_client_was_there(story: Story) -> None:
    """By RPC and in-process; the others tell nothing."""
    assert {"python", "python in-process"} <= {name for name, _ in story.seen}
    assert BREACH_AT == story.breached_at_percent


def test_what_enforces_takes_back_for_everybody(story: Story) -> None:
    """Each client's way goes up, and down once, to nobody; nobody changes sides before."""
    for (name, key), way in story.seen.items():
        if key == ENFORCED:
            top = way.index(max(way, key=len))
            assert all(before <= after for before, after in itertools.pairwise(way[: top + 1])), name
            assert all(before >= after for before, after in itertools.pairwise(way[top:])), name
            assert 0 < len(way[top]) < len(UNITS), name
            assert frozenset() == way[-1], name


def test_a_shadow_changes_nothing(story: Story) -> None:
    """Its release goes on to the end, for each client, and nobody is put out."""
    for (name, key), way in story.seen.items():
        if key == SHADOWED:
            assert all(before <= after for before, after in itertools.pairwise(way)), name
            assert frozenset(UNITS) == way[-1], name
    assert set() == {
        actor for actor, action, _ in trail(story) if actor == f"guard:{SHADOWED}" and action[:5] == "flag."
    }


def test_the_trail_tells_it_in_order(story: Story) -> None:
    """Who did what because of what: the release by itself, the guard, and the way back by the guard's evaluation."""
    id = story.releases[ENFORCED].release.id
    entries = trail(story)
    back = next(each for each in entries if each[0] == f"guard:{ENFORCED}" and each[1] == "flag.updated")
    steps = [actor for actor, action, _ in entries if actor == f"release:{id}" and action == "flag.updated"]

    assert back[2].startswith(f"guard:{ENFORCED}#")
    # To 2, 5 and 10 %, and further before it was known on a busy machine; the first is of whoever started it.
    assert 3 <= len(steps) <= 5
    assert story.releases[ENFORCED].log_agrees
    assert story.releases[SHADOWED].log_agrees


def test_the_events_come_in_order(story: Story) -> None:
    """What tools are told: the steps, the breach, the way back; of the shadow what would have been."""
    engine = open_engine(story.database)
    check_announced(engine)
    events = announced(engine)
    engine.dispose()
    enforced, shadowed = ([type_ for type_, data in events if is_about(data, story, key)] for key in KEYS)

    assert follows(
        enforced,
        ["release.created", "release.started", "release.step_advanced", "guard.breached", "flag.targeting_changed",
         "guard.rolled_back"],
    )  # fmt: skip
    assert "release.rolled_back" in enforced
    assert "release.completed" not in enforced
    assert follows(shadowed, ["release.started", "guard.breached", "guard.would_roll_back", "release.completed"])
    assert {"release.rolled_back", "guard.rolled_back"}.isdisjoint(shadowed)
    would = next(data["reason"] for type_, data in events if type_ == "guard.would_roll_back")
    assert would.startswith("would have rolled back at ")


def test_the_chain_holds(story: Story) -> None:
    """As `flagstaff audit verify` says."""
    command = [sys.executable, "-m", "server", "audit", "verify", "--server", f"http://{HOST}:{story.port}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert 0 == ended.returncode, ended.stdout + ended.stderr


def trail(story: Story) -> list[tuple[str, str, str]]:
    """(actor, action, cause) of all entries, the oldest first."""
    with grpc.insecure_channel(f"{HOST}:{story.port}") as channel:
        stub: Any = AuditServiceStub(channel)
        listed = stub.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(project="default", page_size=1_000))
    return [(each.actor, each.action, each.cause) for each in reversed(listed.entries)]


def is_about(data: Mapping[str, Any], story: Story, key: str) -> bool:
    """Whether an event is about a flag, its release, its guard or its policy; all but the release bear its key."""
    id = story.releases[key].release.id
    return key in (data.get("flag_key"), data.get("guard_id")) or data.get("release_id") == id


def follows(events: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether these come one after the other, whatever stands between them."""
    rest = iter(events)
    return all(each in rest for each in expected)
