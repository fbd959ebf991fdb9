"""Hold grpc.health.v1 to what it says: SERVING exactly while flags can be evaluated."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.live.holder import Holder
from server.rpc.drain import Drain
from server.rpc.health import Health
from tests.fakes import FakeCall, holder_of, snapshot_of
from tests.rpc.conftest import Running, Serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = [
    "",
    "flagd.evaluation.v1.Service",
    "flagd.evaluation.v2.Service",
    "flagd.sync.v1.FlagSyncService",
    "flagstaff.v1.EvaluationService",
    "grpc.health.v1.Health",
]


def stub(running: Running) -> Any:
    """The published client."""
    return health_pb2_grpc.HealthStub(running.channel)


async def check(running: Running, service: str) -> Any:
    """Ask once."""
    return (await stub(running).Check(health_pb2.HealthCheckRequest(service=service))).status


@pytest.mark.parametrize("service", NAMES)
async def test_serving_follows_the_flags(serve: Serve, service: str) -> None:
    """Every service serves once flags were loaded, and not before."""
    holder = Holder("default/production")
    running = await serve(holder=holder)
    before = await check(running, service)
    holder.loaded = True

    assert (NOT_SERVING, SERVING) == (before, await check(running, service))


async def test_unknown_service(serve: Serve) -> None:
    """Check refuses a service that is not here with NOT_FOUND; Watch answers SERVICE_UNKNOWN and stays open."""
    running = await serve()
    request = health_pb2.HealthCheckRequest(service="no.Such")
    status, message = await running.refused("/grpc.health.v1.Health/Check", request.SerializeToString())
    watch = stub(running).Watch(request)

    assert (grpc.StatusCode.NOT_FOUND, True) == (status, "'no.Such'" in message)
    assert health_pb2.HealthCheckResponse.SERVICE_UNKNOWN == (await watch.read()).status
    assert not watch.done()
    watch.cancel()


async def test_list_has_every_service(serve: Serve) -> None:
    """List answers for the server and each of its services."""
    running = await serve()
    statuses = (await stub(running).List(health_pb2.HealthListRequest())).statuses

    assert dict.fromkeys(NAMES, SERVING) == {name: each.status for name, each in statuses.items()}


async def test_watch_through_start_and_drain(serve: Serve) -> None:
    """A watcher hears of the load and of the leave at once, and its stream is ended by us, with OK."""
    holder = Holder("default/production")
    running = await serve(holder=holder)
    watch = stub(running).Watch(health_pb2.HealthCheckRequest(), timeout=4)
    heard = [(await watch.read()).status]
    holder.loaded = True
    running.services.health.refresh()
    heard.append((await watch.read()).status)
    running.services.drain.leave()
    heard.append((await watch.read()).status)
    running.services.drain.end_streams()

    assert [NOT_SERVING, SERVING, NOT_SERVING] == heard
    assert grpc.StatusCode.OK is await watch.code()


async def test_watch_notices_without_being_told() -> None:
    """A watcher looks by itself now and then."""
    holder = Holder("default/production")
    health = Health(["a.B"], lambda: holder.ready, drain=Drain(), poll_s=0.01)
    watching = health.watch(b"", FakeCall())
    first = await anext(watching)
    holder.loaded = True
    second = await anext(watching)

    assert [NOT_SERVING, SERVING] == [health_pb2.HealthCheckResponse.FromString(raw).status for raw in (first, second)]


async def test_every_service_of_the_table_has_a_state(serve: Serve) -> None:
    """No service is served without a state of its own, reflection apart."""
    running = await serve(holder=holder_of(snapshot_of()))
    served = {path.split("/")[1] for path in running.services.table}

    assert set(NAMES) - {""} == {name for name in served if "reflection" not in name}


async def test_a_stalled_loop_does_not_serve(serve: Serve) -> None:
    """What the watchdog finds counts, though flags are there."""
    holder = holder_of(snapshot_of())
    running = await serve(holder=holder)
    holder.stalled = True
    stalled = await check(running, "")
    holder.stalled = False

    assert (NOT_SERVING, SERVING) == (stalled, await check(running, ""))
