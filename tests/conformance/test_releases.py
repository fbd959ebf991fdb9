"""Releases as applications see them: official clients, remote and in-process, while a server moves flags by itself.

One release goes from 1 to 100 % in some seconds, and its server is killed on the way: nobody who was let in is put out,
by nobody's way of hashing, and it goes on where it was. Then three flags are switched as one under 100 streams.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format

from protos.flagstaff.v1 import evaluation_pb2, releases_pb2
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.releases_pb2_grpc import ReleaseServiceStub
from tests.conformance.processes import HOST, Driver, DriverOf, FlagSetFile, Ports, Server, import_flags, serve_database
from tests.ports import low_ports

UNITS: Final = tuple(f"user-{number}" for number in range(60))
SHARES: Final = (1_000, 10_000, 25_000, 50_000, 100_000)
STEP_S: Final = 1.5
TIMEOUT_S: Final = 90.0
STREAMS: Final = 100
BLUE: Final = ("blue-1", "blue-2", "blue-3")
CLIENTS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "python": ("python", {}),
    "python in-process": ("python", {"resolver": "in-process"}),
    "node": ("node", {"cache": "disabled"}),
    "node in-process": ("node", {"resolver": "in-process"}),
}
FLAGS: Final = {
    "flags": {
        "new-checkout": {
            "variants": {"on": True, "off": False},
            "default": "off",
            "rules": [{"id": "everybody", "serve": "on", "share": {"percent": 0}}],
        },
        **{key: {"variants": {"new": "new", "old": "old"}, "default": "old"} for key in BLUE},
    }
}


class Place:
    """A server on fixed ports over one database, which can be killed and comes back."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.ports = folder, Ports(*low_ports(3))
        self._database = f"sqlite:///{folder / 'flags.db'}"
        import_flags(folder / "flags.json", FlagSetFile(FLAGS), database=self._database)
        self.server = self._serve()

    def come_back(self) -> None:
        """Kill the server, as if the power went, and start it again."""
        self.server.kill()
        self.server = self._serve()

    def _serve(self) -> Server:
        return serve_database(self._folder, self._database, ports=self.ports)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The server of this module."""
    found = Place(tmp_path_factory.mktemp("releases"))
    yield found
    found.server.stop()


@contextmanager
def service(place: Place) -> Iterator[Any]:
    """A connection of its own: a server that was killed leaves no old one."""
    with grpc.insecure_channel(f"{HOST}:{place.ports.grpc}") as channel:
        yield ReleaseServiceStub(channel)


def begun(place: Place, **fields: Any) -> str:
    """The id of a release that has started; fields as JSON has them."""
    request = json_format.ParseDict({"project": "default", **fields}, releases_pb2.CreateReleaseRequest())
    with service(place) as stub:
        id: str = stub.CreateRelease(request).release.id
        stub.StartRelease(releases_pb2.StartReleaseRequest(project="default", id=id))
    return id


def read(place: Place, id: str) -> releases_pb2.GetReleaseResponse:
    """A release and its log."""
    with service(place) as stub:
        found: releases_pb2.GetReleaseResponse = stub.GetRelease(
            releases_pb2.GetReleaseRequest(project="default", id=id), wait_for_ready=True, timeout=30
        )
        return found


def let_in(driver: Driver) -> frozenset[str] | None:
    """Whom a client's application lets in; None while its client has no answer."""
    question = {"type": "Boolean", "key": "new-checkout", "default": False}
    questions = [{**question, "context": {"targetingKey": unit}} for unit in UNITS]
    answers = driver.ask("evaluateMany", questions=questions)["answers"]
    if any(each.get("errorCode") for each in answers):
        return None
    return frozenset(unit for unit, answer in zip(UNITS, answers, strict=True) if answer["value"])


def test_from_one_to_a_hundred_through_a_crash(place: Place, driver_of: DriverOf) -> None:
    """Shares only grow, for each client; all are in at the end; the log has each step once, and agrees."""
    drivers: dict[str, Driver] = {}
    for name, (client, options) in CLIENTS.items():
        try:
            drivers[name] = driver_of(client, place.server, options)
        except pytest.skip.Exception:
            # Python's are always here.
            continue
    recipe = {
        "environment": "production",
        "flagKey": "new-checkout",
        "ruleId": "everybody",
        "custom": {"parts": list(SHARES)},
        "gates": {"minimum": f"{STEP_S}s"},
    }
    id = begun(place, plan={"name": "New checkout"}, progressive=recipe)
    seen: dict[str, list[frozenset[str]]] = {name: [frozenset()] for name in drivers}
    killed, until = False, time.monotonic() + TIMEOUT_S
    while time.monotonic() < until and any(len(each[-1]) < len(UNITS) for each in seen.values()):
        for name, driver in drivers.items():
            found = let_in(driver)
            if found is not None:
                seen[name].append(found)
        if not killed and read(place, id).release.step >= 2:
            place.come_back()
            killed = True
    detail = read(place, id)

    assert {"python", "python in-process"} <= drivers.keys()
    for name, way in seen.items():
        assert len(UNITS) == len(way[-1]), name
        for before, after in itertools.pairwise(way):
            assert before <= after, name
    moved = [(each.from_step, each.to_step) for each in detail.events if each.from_step != each.to_step]
    assert killed
    assert (0, len(SHARES)) == (moved[0][0], moved[-1][1])
    assert all(before[1] == after[0] for before, after in itertools.pairwise(moved))
    assert (releases_pb2.RELEASE_STATE_COMPLETED, True) == (detail.release.state, detail.log_agrees)


async def values(channel: Any, number: int) -> AsyncIterator[dict[str, str]]:
    """What one client's stream has told it, after each message that completes a revision."""
    request = evaluation_pb2.WatchRequest(flag_keys=BLUE)
    request.context.update({"targetingKey": f"user-{number}"})
    told: dict[str, str] = {}
    stub: Any = EvaluationServiceStub(channel)
    async for message in stub.Watch(request):
        told.update({each.flag_key: each.string_value for each in message.resolutions})
        yield dict(told)


async def test_a_switch_of_three_flags_shows_nobody_a_mix(place: Place) -> None:
    """100 streams see all old, all new, and all old again after the way back, and nothing between."""
    flags = [{"environment": "production", "flagKey": key, "preview": "new"} for key in BLUE]
    audience = {"==": [{"var": "staff"}, True]}
    id = begun(place, plan={"name": "Blue"}, blueGreen={"flags": flags, "audience": audience})
    options = [("grpc.use_local_subchannel_pool", 1)]
    histories: list[list[set[str]]] = [[] for _ in range(STREAMS)]

    async with grpc.aio.insecure_channel(f"{HOST}:{place.ports.grpc}", options=options) as channel:

        async def follow(number: int) -> None:
            async for told in values(channel, number):
                histories[number].append(set(told.values()))
                if [{"old"}, {"new"}, {"old"}] == steps(histories[number]):
                    return

        tasks = [asyncio.create_task(follow(number)) for number in range(STREAMS)]
        await reached(histories, [{"old"}])
        stub: Any = ReleaseServiceStub(channel)
        switched = await stub.AdvanceRelease(releases_pb2.AdvanceReleaseRequest(project="default", id=id))
        await reached(histories, [{"old"}, {"new"}])
        await stub.RollBackRelease(releases_pb2.RollBackReleaseRequest(project="default", id=id))
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*tasks)

    assert 1 == len(switched.result.revisions)
    assert {1} == {len(each) for history in histories for each in history}


async def reached(histories: list[list[set[str]]], way: list[set[str]]) -> None:
    """Wait until every stream has been told this much."""
    async with asyncio.timeout(TIMEOUT_S):
        while any(steps(history)[: len(way)] != way for history in histories):
            await asyncio.sleep(0.05)


def steps(history: list[set[str]]) -> list[set[str]]:
    """What a stream was told, without repetitions."""
    return [each for index, each in enumerate(history) if not index or each != history[index - 1]]
