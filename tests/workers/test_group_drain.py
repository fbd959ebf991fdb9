"""A group leaves without a failed call: clients that go when health says so lose nothing."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.workers.conftest import TIMEOUT_S, Group, Start, answered_by

CLIENTS = 8
SERVICE = "flagstaff.v1.EvaluationService"
EVENTS = "/flagd.evaluation.v1.Service/EventStream"
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@dataclass(slots=True)
class Client:
    """One connection that calls without a pause and without retries until it is told to go."""

    channel: grpc.Channel
    answered: int = 0
    errors: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    told_to_go: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Follow health, as a balancer does."""
        for answer in HealthStub(self.channel).Watch(HealthCheckRequest(service=SERVICE), timeout=TIMEOUT_S):
            if answer.status == HealthCheckResponse.NOT_SERVING:
                break
        self.told_to_go.set()

    def call(self) -> None:
        """Evaluate, and evaluate again."""
        stub = EvaluationServiceStub(self.channel)
        while not self.told_to_go.is_set():
            try:
                stub.Evaluate(messages.EvaluateRequest(flag_key="payments"), timeout=TIMEOUT_S)
                self.answered += 1
            except grpc.RpcError as error:
                self.errors.append(str(error))
                return

    def listen(self) -> None:
        """Hold flagd's event stream open to its end."""
        stream = self.channel.unary_stream(EVENTS, Empty.SerializeToString, lambda raw: raw)(Empty(), timeout=TIMEOUT_S)
        with contextlib.suppress(grpc.RpcError):
            for _ in stream:
                pass
        self.ended.append(stream.details())


@contextlib.contextmanager
def working(group: Group) -> Iterator[list[Client]]:
    """Clients on connections of their own, each of which has had answers; they end inside the block."""
    address = f"127.0.0.1:{group.told['grpc_port']}"
    with contextlib.ExitStack() as channels:
        clients = [
            Client(channels.enter_context(grpc.insecure_channel(address, options=OWN_CONNECTION)))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            grpc.channel_ready_future(client.channel).result(TIMEOUT_S)
        jobs = [job for client in clients for job in (client.watch, client.call, client.listen)]
        threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        while not all(client.answered > 10 or client.errors for client in clients):
            threading.Event().wait(0.05)
        yield clients
        for thread in threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


def test_no_call_fails_and_every_stream_is_ended(start: Start) -> None:
    """By SIGTERM to the master under load; it exits with 0."""
    group = start("--demo", "--workers", "2", "--drain-delay=3", "--drain-grace=20")
    answered_by(group)
    with working(group) as clients:
        code = group.stop()

    assert [] == [error for client in clients for error in client.errors]
    assert {"the server is stopping; open a new stream"} == {told for client in clients for told in client.ended}
    assert 0 == code
    assert "killed" not in group.logged()
