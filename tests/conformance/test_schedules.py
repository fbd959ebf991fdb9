"""Schedules through whole servers, as applications see them: one process, two workers, one that was killed."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import any_pb2, timestamp_pb2

from protos.flagstaff.v1 import evaluation_pb2, flags_pb2, schedules_pb2
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.schedules_pb2_grpc import ScheduleServiceStub
from tests.conformance.processes import HOST, Driver, DriverOf, FlagSetFile, Ports, Server, import_flags, serve_database
from tests.ports import low_ports

AHEAD_S: Final = 5.0
"""From the making of a schedule to its instant: enough to kill a server, on a busy machine."""

TIMEOUT_S: Final = 60.0
FLAG: Final = {"variants": {"on": True, "off": False}, "default": "on", "offVariant": "off", "enabled": False}
WHERE: Final[Mapping[str, Any]] = {"project": "default"}
Timing: Final = schedules_pb2.ScheduleTiming


def served(folder: Path, *options: str, ports: Ports) -> Server:
    """A server over a database with a flag that is off."""
    database = f"sqlite:///{folder / 'flags.db'}"
    if not (folder / "flags.db").exists():
        import_flags(folder / "flags.json", FlagSetFile({"flags": {"sale": FLAG, "late": FLAG}}), database=database)
    return serve_database(folder, database, ports=ports, options=options)


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    """The service of schedules, by a connection of its own: a server that was killed leaves no old one."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{HOST}:{server.port}", options=options) as channel:
        yield ScheduleServiceStub(channel)


def made(server: Server, key: str, **timing: Any) -> tuple[str, datetime]:
    """The id and the instant of a schedule that turns a flag on."""
    at = datetime.now(UTC) + timedelta(seconds=AHEAD_S)
    instant = timestamp_pb2.Timestamp()
    instant.FromDatetime(at)
    write = any_pb2.Any()
    write.Pack(flags_pb2.EnableFlagsRequest(**WHERE, environment="production", keys=[key]))
    request = schedules_pb2.CreateScheduleRequest(**WHERE, writes=[write], timing=Timing(at=instant, **timing))
    with connected(server) as stub:
        return str(stub.CreateSchedule(request).schedule.id), at


def outcome(server: Server, id: str) -> list[str]:
    """What became of a schedule's instant, once something has."""
    until = time.monotonic() + TIMEOUT_S
    with connected(server) as stub:
        while time.monotonic() < until:
            listed = stub.ListScheduleExecutions(
                schedules_pb2.ListScheduleExecutionsRequest(**WHERE, id=id), wait_for_ready=True, timeout=TIMEOUT_S
            )
            if listed.executions:
                return [each.happening for each in listed.executions]
            time.sleep(0.05)
    raise AssertionError(f"nothing became of {id}")


@contextmanager
def watching(server: Server, key: str) -> Iterator[list[tuple[float, bool]]]:
    """What a stream of ours is told of a flag, with the time, while the block lasts."""
    told: list[tuple[float, bool]] = []
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{HOST}:{server.port}", options=options) as channel:
        stub: Any = EvaluationServiceStub(channel)
        stream = stub.Watch(evaluation_pb2.WatchRequest(flag_keys=[key]))

        def follow() -> None:
            with suppress(grpc.RpcError):
                for message in stream:
                    told.extend((time.time(), each.bool_value) for each in message.resolutions)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        eventually(lambda: bool(told))
        yield told
        stream.cancel()
        thread.join()


def eventually(condition: Any) -> None:
    """Wait until it holds."""
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def is_on(driver: Driver, key: str) -> bool:
    """What an application sees."""
    return bool(driver.evaluate("Boolean", key, default=False, context={"targetingKey": "ann"})["value"])


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_clients_see_it_at_its_instant(tmp_path: Path, driver_of: DriverOf, options: tuple[str, ...]) -> None:
    """A stream of ours and official providers, remote and in-process: off until then, on once, and not before."""
    server = served(tmp_path, *options, ports=Ports())
    try:
        drivers = [driver_of("python", server, each) for each in ({}, {"resolver": "in-process"})]
        before = [is_on(driver, "sale") for driver in drivers]
        with watching(server, "sale") as told:
            id, at = made(server, "sale")
            happened = outcome(server, id)
            eventually(lambda: len(told) > 1 and all(is_on(driver, "sale") for driver in drivers))
    finally:
        server.stop()

    assert ([False, False], ["executed"]) == (before, happened)
    assert [False, True] == [value for _, value in told]
    assert told[1][0] >= at.timestamp()


def test_a_server_that_was_killed_makes_up_for_it(tmp_path: Path, driver_of: DriverOf) -> None:
    """Nobody was there at the instant: one is made up for, once, the other is skipped; a client sees it."""
    ports = Ports(*low_ports(3))
    server = served(tmp_path, ports=ports)
    try:
        driver = driver_of("python", server, {"resolver": "in-process"})
        run, at = made(server, "sale", missed=Timing.MISSED_RUN, grace_s=0)
        skip, _ = made(server, "late", missed=Timing.MISSED_SKIP, grace_s=0)
        server.kill()
        assert datetime.now(UTC) < at, "too late to tell anything"
        # The instants come while nobody is there.
        time.sleep(AHEAD_S + 1.0)
        server = served(tmp_path, ports=ports)
        happened = outcome(server, run), outcome(server, skip)
        eventually(lambda: is_on(driver, "sale"))
        late = is_on(driver, "late")
    finally:
        server.kill()

    assert (["executed"], ["skipped"], False) == (*happened, late)
