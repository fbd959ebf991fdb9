"""Flags are managed by a process of its own, as if each process that serves them did."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from protos.flagstaff.v1 import audit_pb2 as audit
from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import schedules_pb2 as schedules
from protos.flagstaff.v1 import segments_pb2 as segments
from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub
from protos.flagstaff.v1.schedules_pb2_grpc import ScheduleServiceStub
from protos.flagstaff.v1.segments_pb2_grpc import SegmentServiceStub
from tests.workers.conftest import TIMEOUT_S, Group, Start, eventually, is_alive, starting

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
WHERE: dict[str, Any] = {"project": "default", "environment": "production"}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """Two processes that serve, and one that manages."""
    with starting(tmp_path_factory.mktemp("apart")) as begin:
        yield begin("--demo", "--workers=2", "--management=apart")


@contextlib.contextmanager
def connected(group: Group) -> Iterator[grpc.Channel]:
    """By a fresh connection, so that any process may answer."""
    with grpc.insecure_channel(f"127.0.0.1:{group.told['grpc_port']}", options=OWN_CONNECTION) as channel:
        yield channel


def evaluate(group: Group, flag_key: str) -> bool:
    """For nobody in particular."""
    with connected(group) as channel:
        request = evaluation.EvaluateRequest(flag_key=flag_key)
        return bool(EvaluationServiceStub(channel).Evaluate(request, timeout=TIMEOUT_S).resolution.bool_value)


def switch(group: Group, *, on: bool) -> int:
    """Turn a flag on or off; the revision."""
    with connected(group) as channel:
        service = FlagServiceStub(channel)
        if on:
            enabled = service.EnableFlags(flags.EnableFlagsRequest(keys=["payments"], **WHERE), timeout=TIMEOUT_S)
            return int(enabled.result.revisions["production"])
        killed = service.KillFlags(flags.KillFlagsRequest(keys=["payments"], **WHERE), timeout=TIMEOUT_S)
        return int(killed.result.revisions["production"])


def test_what_is_managed_there_is_evaluated_here(group: Group) -> None:
    """By each process; what it is asked runs in the other one, and is audited like everywhere."""
    first = switch(group, on=False)
    eventually(lambda: not any(evaluate(group, "payments") for _ in range(8)))
    second = switch(group, on=True)
    eventually(lambda: all(evaluate(group, "payments") for _ in range(8)))
    with connected(group) as channel:
        request = audit.ListAuditEntriesRequest(project="default", page_size=2)
        entries = AuditServiceStub(channel).ListAuditEntries(request, timeout=TIMEOUT_S).entries

    assert first + 1 == second
    assert [("open", second), ("open", first)] == [(each.actor, each.revision) for each in entries]
    assert group.told["manager"] not in group.pids


def test_what_a_client_sends_in_portions_arrives_there(group: Group) -> None:
    """Keys of a segment, a portion a message."""
    portions = [[f"user-{number}-{place}" for place in range(1_000)] for number in range(20)]

    def requests() -> Iterator[segments.ChangeSegmentKeysRequest]:
        for number, keys in enumerate(portions):
            named: dict[str, Any] = {**WHERE, "key": "crowd"} if number == 0 else {}
            yield segments.ChangeSegmentKeysRequest(keys=keys, last=number == 19, **named)

    with connected(group) as channel:
        service = SegmentServiceStub(channel)
        new = segments.CreateSegmentRequest(**WHERE)
        new.segment.key = "crowd"
        new.segment.key_list.SetInParent()
        service.CreateSegment(new, timeout=TIMEOUT_S)
        service.AddSegmentKeys(requests(), timeout=TIMEOUT_S)
        made = service.GetSegment(segments.GetSegmentRequest(key="crowd", **WHERE), timeout=TIMEOUT_S)

    assert 20_000 == made.segment.key_list.count


def test_timed_work_is_done_there(group: Group) -> None:
    """A schedule is executed, once, though two other processes serve."""
    due_at = datetime.now(UTC) + timedelta(seconds=1)
    with connected(group) as channel:
        request = schedules.CreateScheduleRequest(project="default")
        request.writes.add().Pack(flags.KillFlagsRequest(keys=["banner"], **WHERE))
        request.timing.at.FromDatetime(due_at)
        service = ScheduleServiceStub(channel)
        made = service.CreateSchedule(request, timeout=TIMEOUT_S).schedule
        get = schedules.GetScheduleRequest(project="default", id=made.id)
        eventually(lambda: service.GetSchedule(get, timeout=TIMEOUT_S).schedule.state == schedules.Schedule.STATE_DONE)


def test_one_that_is_killed_is_replaced(group: Group) -> None:
    """Evaluation goes on; a change that comes meanwhile waits for the next one; a stream goes on after its status."""
    switch(group, on=True)
    with connected(group) as channel:
        request = audit.WatchAuditEntriesRequest(project="default")
        # A call is an iterator, of which its stubs do not know.
        stream: Any = AuditServiceStub(channel).WatchAuditEntries(request)
        assert next(stream) is not None
        os.kill(group.told["manager"], signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
    still_on = evaluate(group, "payments")
    switch(group, on=False)
    eventually(lambda: not evaluate(group, "payments"))
    error: Any = caught.value

    assert (grpc.StatusCode.UNAVAILABLE, True) == (error.code(), still_on)
    assert "the process that manages flags ended meanwhile" in error.details()


def test_it_ends_after_those_that_serve(start: Start) -> None:
    """Its streams end with what brings clients back, and nobody stays."""
    group = start("--demo", "--workers=2", "--management=apart", "--drain-delay=0.5")
    endings: list[str] = []

    def watch() -> None:
        with connected(group) as channel:
            request = audit.WatchAuditEntriesRequest(project="default")
            try:
                for _ in AuditServiceStub(channel).WatchAuditEntries(request, timeout=TIMEOUT_S):
                    watching.set()
            except grpc.RpcError as error:
                told: Any = error
                endings.append(f"{told.code().name}: {told.details()}")

    watching = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    assert watching.wait(TIMEOUT_S)
    code = group.stop()
    thread.join(TIMEOUT_S)
    pids = [group.process.pid, *group.pids, group.told["manager"]]

    assert (0, ["UNAVAILABLE: the server is stopping; open a new stream"]) == (code, endings)
    assert [] == [pid for pid in pids if is_alive(pid)]
    assert "Traceback" not in group.logged()


def test_it_ends_with_its_master(start: Start) -> None:
    """Kill -9 gives the master no time to tell it. One process that serves may have it, too."""
    group = start("--demo", "--management=apart")
    group.process.kill()

    eventually(lambda: not is_alive(group.told["manager"]))
    assert 1 == len(group.pids)
