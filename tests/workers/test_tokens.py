"""What becomes of a token by one process is so in all of them, on both kinds of database."""

import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client.parser import text_string_to_metric_families

from protos.flagd.evaluation.v2 import evaluation_pb2 as flagd
from protos.flagd.evaluation.v2.evaluation_pb2_grpc import ServiceStub
from protos.flagd.sync.v1 import sync_pb2 as sync
from protos.flagd.sync.v1.sync_pb2_grpc import FlagSyncServiceStub
from protos.flagstaff.v1 import audit_pb2 as audit
from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import tokens_pb2 as tokens
from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub
from protos.flagstaff.v1.tokens_pb2_grpc import TokenServiceStub
from server.live.callers import POLL_S
from server.live.sessions import LOOK_S
from tests.store.definitions import KINDS, new_url
from tests.workers.conftest import TIMEOUT_S, Group, eventually, starting

WHO_AM_I: Final = tokens.WhoAmIRequest()
SECRET: Final = "a secret key that the replicas share"
ENDED_S_MAX: Final = 5.0
"""What is promised: a revoked token's streams end within it."""

CONNECTIONS_MAX: Final = 64
"""So many to one server meet both of its workers, unless the kernel spreads nothing."""

STREAMS: Final[dict[str, tuple[str, Callable[[grpc.Channel], Callable[..., Any]], Any]]] = {
    "/flagstaff.v1.EvaluationService/Watch": (
        "grpc_port",
        lambda channel: EvaluationServiceStub(channel).Watch,
        evaluation.WatchRequest(),
    ),
    "/flagd.evaluation.v2.Service/EventStream": (
        "grpc_port",
        lambda channel: ServiceStub(channel).EventStream,
        flagd.EventStreamRequest(),
    ),
    "/flagd.sync.v1.FlagSyncService/SyncFlags": (
        "sync_port",
        lambda channel: FlagSyncServiceStub(channel).SyncFlags,
        sync.SyncFlagsRequest(),
    ),
    "/flagstaff.v1.AuditService/WatchAuditEntries": (
        "grpc_port",
        lambda channel: AuditServiceStub(channel).WatchAuditEntries,
        audit.WatchAuditEntriesRequest(project="default"),
    ),
}
"""Method -> its port, how it is called, and with what; each says something at once."""


class Stream:
    """An open stream that is read to its end by a thread; what is not read holds back the news of the end."""

    def __init__(self, method: str, call: Any) -> None:
        """It has said something, so it is open."""
        assert next(call) is not None
        self.method, self.ending = method, ""
        self._call = call
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for _ in self._call:
                pass
            self.ending = "OK"
        except grpc.RpcError as error:
            self.ending = f"{error.code().name}: {error.details()}"


@dataclass
class Fleet:
    """Servers over one database, and connections to them."""

    groups: list[Group]
    admin: str
    channels: list[grpc.Channel] = field(default_factory=list)

    def channel(self, group: Group, port: str = "grpc_port") -> grpc.Channel:
        """A connection of its own, so that any worker may get it."""
        target = f"127.0.0.1:{group.told[port]}"
        self.channels.append(grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]))
        return self.channels[-1]

    def token_service(self, number: int) -> TokenServiceStub:
        """One server's token service."""
        return TokenServiceStub(self.channel(self.groups[number % len(self.groups)]))

    def create(self, *roles: str, number: int = 0, **fields: Any) -> tokens.CreateTokenResponse:
        """A new token, that every worker knows."""
        grants = [tokens.RoleGrant(role=tokens.Role.Value(f"ROLE_{role}")) for role in roles]
        request = tokens.CreateTokenRequest(name="test", roles=grants, **fields)
        made: tokens.CreateTokenResponse = self.token_service(number).CreateToken(request, metadata=bearer(self.admin))
        self.spread(made.text)
        return made

    def rotate(self, made: tokens.CreateTokenResponse, *, seconds: int) -> tokens.RotateTokenResponse:
        """What replaces a token, by the last server; the old one is good for so long."""
        request = tokens.RotateTokenRequest(id=made.token.id, overlap=Duration(seconds=seconds))
        reply: tokens.RotateTokenResponse = self.token_service(-1).RotateToken(request, metadata=bearer(self.admin))
        return reply

    def spread(self, token: str) -> None:
        """Ask with a token until every worker of every server has taken it."""
        for group in self.groups:
            before = taken(group)

            def met_all(group: Group = group, before: dict[str, float] = before) -> bool:
                code_of(lambda: TokenServiceStub(self.channel(group)).WhoAmI(WHO_AM_I, metadata=bearer(token)))
                after = taken(group)
                return sum(after[each] > before.get(each, 0) for each in after) == len(group.pids)

            eventually(met_all)

    def answers(self, token: str) -> set[str]:
        """What evaluations with a token come to, by several connections to each server."""
        request = evaluation.EvaluateRequest(flag_key="new-checkout")
        return {
            code_of(lambda channel=channel: EvaluationServiceStub(channel).Evaluate(request, metadata=bearer(token)))  # type: ignore[misc]
            for group in self.groups
            for channel in [self.channel(group) for _ in range(4)]
        }

    def listen(self, token: str) -> list["Stream"]:
        """Streams of every kind with a token, each kind in every worker."""
        streams: list[Stream] = []
        for group in self.groups:
            for method, (port, stub, request) in STREAMS.items():
                before = len(streams)
                while len(streams) < before + CONNECTIONS_MAX:
                    streams.append(Stream(method, stub(self.channel(group, port))(request, metadata=bearer(token))))
                    held = figures(group, "flagstaff_rpc_open_streams", method=method)
                    if sum(count > 0 for count in held.values()) == len(group.pids):
                        break
                else:
                    pytest.fail(f"one worker got all of {CONNECTIONS_MAX} connections")
        return streams

    def close(self) -> None:
        """End every connection."""
        for channel in self.channels:
            channel.close()
        self.channels.clear()


@pytest.fixture(scope="module", params=KINDS)
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One server of two workers over SQLite; two over PostgreSQL, each of which manages flags by a process of its own.

    Everyone needs a token.
    """
    directory = tmp_path_factory.mktemp(f"tokens-{request.param}")
    with new_url(directory, request.param) as url:
        variables = {"FLAGSTAFF_DATABASE_URL": url, "FLAGSTAFF_SECRET_KEY": SECRET}
        with starting(directory, **variables) as start:
            options = ("--require-token", "--workers=2", "--last-known-good=off")
            apart = ["--management=apart"] if request.param == "postgresql" else []
            groups = [start("--demo", *apart, *options)]
            if request.param == "postgresql":
                groups.append(start("--management=apart", *options))
            yield Fleet(groups, groups[0].told["admin_token"])


@pytest.fixture
def fleet(servers: Fleet) -> Iterator[Fleet]:
    """The servers, with connections of the test's own."""
    yield servers
    servers.close()


def bearer(token: str) -> tuple[tuple[str, str | bytes], ...]:
    """How a client sends a token."""
    return (("authorization", f"Bearer {token}"),)


def code_of(call: Callable[[], Any]) -> str:
    """What a call comes to."""
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def figures(group: Group, name: str, **labels: str) -> dict[str, float]:
    """A metric of every worker of a server."""
    address = f"http://127.0.0.1:{group.told['http_port']}/metrics"
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as reply:
        families = list(text_string_to_metric_families(reply.read().decode()))
    return {
        sample.labels["worker"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def taken(group: Group) -> dict[str, float]:
    """How many tokens each worker has taken, when they asked who they are."""
    return figures(group, "flagstaff_rpc_calls_total", method="/flagstaff.v1.TokenService/WhoAmI", status="OK")


def test_a_token_that_is_revoked_by_one_ends_its_streams_in_all(fleet: Fleet) -> None:
    """Of every kind, in every worker of every server; others' streams go on, and the call is refused from then on."""
    made, other = fleet.create("READ"), fleet.create("READ", number=-1)
    ending, lasting = fleet.listen(made.text), fleet.listen(other.text)
    request = tokens.RevokeTokenRequest(id=made.token.id)
    fleet.token_service(-1).RevokeToken(request, metadata=bearer(fleet.admin))
    eventually(lambda: all(stream.ending for stream in ending))

    assert {f"UNAUTHENTICATED: token:{made.token.id} was revoked; the stream ends"} == {each.ending for each in ending}
    assert ({"UNAUTHENTICATED"}, {""}) == (fleet.answers(made.text), {each.ending for each in lasting})
    assert POLL_S + LOOK_S < ENDED_S_MAX


def test_rotation_overlaps(fleet: Fleet) -> None:
    """Both tokens are good for as long as the overlap says; the other server made the new one."""
    made = fleet.create("EVALUATE")
    rotated = fleet.rotate(made, seconds=3_600)
    fleet.spread(rotated.text)

    assert [{"OK"}] * 2 == [fleet.answers(made.text), fleet.answers(rotated.text)]


def test_an_expired_token_ends_everywhere(fleet: Fleet) -> None:
    """Its streams too, by themselves, in every worker; what replaced it is good."""
    made = fleet.create("READ")
    streams = fleet.listen(made.text)
    rotated = fleet.rotate(made, seconds=1)
    eventually(lambda: all(stream.ending for stream in streams))
    fleet.spread(rotated.text)

    assert {f"UNAUTHENTICATED: token:{made.token.id} has expired; the stream ends"} == {each.ending for each in streams}
    assert {"UNAUTHENTICATED"} == fleet.answers(made.text)


def test_managing_with_a_token(fleet: Fleet) -> None:
    """Who may edit does, through any server, and the trail says who it was; who may read does not."""
    editor, reader = fleet.create("EDIT"), fleet.create("READ")

    def disable(group: Group, token: str) -> str:
        request = flags.DisableFlagsRequest(project="default", environment="production", keys=["banner"])
        stub = FlagServiceStub(fleet.channel(group))
        return code_of(lambda: stub.DisableFlags(request, metadata=bearer(token)))

    assert {"PERMISSION_DENIED"} == {disable(group, reader.text) for group in fleet.groups}
    assert "OK" == disable(fleet.groups[-1], editor.text)
    question = audit.ListAuditEntriesRequest(project="default", page_size=1)
    listed = AuditServiceStub(fleet.channel(fleet.groups[0])).ListAuditEntries(question, metadata=bearer(reader.text))
    assert f"token:{editor.token.id}" == listed.entries[0].actor
