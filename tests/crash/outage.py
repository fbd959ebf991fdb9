"""Prove that a database that is away, frozen or slow harms no evaluation and no stream, and is caught up with.

A server over PostgreSQL is asked, listened to and written to, all the time; its database is stopped, frozen by SIGSTOP
and answered 30 s late, in turn. What was acknowledged is looked up in the database afterwards.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import Engine

from protos.flagd.evaluation.v1 import evaluation_pb2 as flagd
from protos.flagd.evaluation.v1.evaluation_pb2_grpc import ServiceStub
from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub
from server.core.changes import PutFlag
from server.core.errors import StoreUnavailable
from server.store.commit import commit
from server.store.engine import open_engine
from tests import postgres
from tests.conformance.processes import HOST, FlagSetFile, import_flags, serve_database
from tests.crash.proofs import Effort, Results
from tests.crash.slow_wire import SlowWire
from tests.crash.surroundings import Asking
from tests.store.definitions import flag

KEY: Final = "changing"
MARK: Final = "mark"
FRESH_S_MAX: Final = 5.0
SLOW_S: Final = 30.0
QUICK_S: Final = 24.0
"""Long enough for a write that begins while the server is silent: those before it give up after 12 s, and a connection
is tried for 3 s."""

USUAL_S: Final = 75.0
LONG_S: Final = 300.0
SETTLED_S: Final = 0.5
WRITE_S_MAX: Final = 60.0
PAUSE_S: Final = 0.1
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer was told."""

    began_at: float
    ended_at: float
    code: str
    """"" when it was acknowledged."""

    retry: bool
    """Whether it was told when to try again."""

    value: str
    revision: int


@dataclass(slots=True)
class Run:
    """One run of the proof."""

    results: Results
    cluster: postgres.Cluster
    wire: SlowWire
    engine: Engine
    """Past the wire: the proof's own way."""

    port: int
    marks: int = 0


def prove(effort: Effort) -> Results:
    """Take the database away in three ways, under load."""
    results, folder = Results(), Path(effort.directory)
    hold_s = QUICK_S if effort.cycles < 100 else USUAL_S if effort.cycles < 1_000 else LONG_S
    with postgres.new_cluster() as cluster:
        direct = postgres.create_database(cluster.url)
        wire = SlowWire(cluster.port)
        url = postgres.text_of(direct.set(port=wire.port).update_query_dict({"sslmode": "disable"}))
        content = {key: {"type": "string", "variants": {"a": "a", "b": "b"}, "default": "a"} for key in (KEY, MARK)}
        import_flags(folder / "flags.json", FlagSetFile({"flags": content}), database=url)
        server = serve_database(folder, url, options=("--last-known-good", str(folder / "kept")))
        engine = open_engine(postgres.text_of(direct))
        try:
            run = Run(results, cluster, wire, engine, server.port)
            _under_load(run, hold_s)
        finally:
            engine.dispose()
            server.stop()
            wire.close()
    return results


def _under_load(run: Run, hold_s: float) -> None:
    results = run.results
    with (
        Asking(run.port, _evaluate, pause_s=0.01) as asking,
        _listening(run.port) as told,
        _writing(run.port) as written,
    ):
        for name, outage in (("stopped", _stopped), ("frozen", _frozen), ("slow", _slow)):
            _mark(run, time.monotonic())
            connections = run.wire.connection_count
            began_at = time.monotonic()
            with outage(run):
                time.sleep(hold_s)
                ended_at = time.monotonic()
            check_writes(
                results,
                name,
                [each for each in list(written) if began_at + SETTLED_S <= each.began_at <= each.ended_at <= ended_at],
            )
            if name == "stopped":
                attempts = run.wire.connection_count - connections
                results.check("it is looked for once a second", attempts <= hold_s + 12, f"{attempts} in {hold_s:g} s")
            took_s = _mark(run, time.monotonic())
            results.check("what came meanwhile is served 5 s later", took_s <= FRESH_S_MAX, f"{name}: {took_s:.1f} s")
            results.note(f"ms to be fresh again ({name})", round(took_s * 1000))
    results.check("every evaluation is answered", not asking.failures, "; ".join(asking.failures[:3]))
    results.note("evaluations", asking.asked)
    results.note("ms for the slowest", asking.slowest_ms)
    for stream in told:
        results.check("no stream ends", not stream.ending, f"{stream.name}: {stream.ending}")
        going_back = [pair for pair in zip(stream.revisions, stream.revisions[1:], strict=False) if pair[0] > pair[1]]
        results.equal("no stream goes back", [], going_back, where=stream.name)
        results.note(f"messages of {stream.name}", stream.heard)
    _check_acknowledged(run, written)


def check_writes(results: Results, name: str, ended: Sequence[Written]) -> None:
    """Hold what writers were told during an outage against what they have to be told."""
    results.check("writes are tried while it is away", bool(ended), name)
    for each in ended:
        results.equal("they fail with UNAVAILABLE", "UNAVAILABLE", each.code or "acknowledged", where=name)
        results.check("they are told when to try again", each.retry, name)


def _check_acknowledged(run: Run, written: list[Written]) -> None:
    """What was acknowledged is there, and nothing of what was refused for certain."""
    with postgres.connect(run.engine.url) as connection:
        rows = connection.execute(
            "SELECT revision, document FROM revision WHERE kind = 'flag' AND key = %s ORDER BY revision", [KEY]
        ).fetchall()
        (last,) = connection.execute("SELECT revision FROM environment WHERE key = 'production'").fetchone() or (0,)
        found = connection.execute("SELECT DISTINCT revision FROM revision ORDER BY revision").fetchall()
    values = {revision: json.loads(document)["default"] for revision, document in rows}
    # One that asks for what is so already has no revision.
    acknowledged = [each for each in written if not each.code and each.revision]
    for each in acknowledged:
        run.results.equal(
            "what was acknowledged is there", each.value, values.get(each.revision), where=f"{each.revision}"
        )
    run.results.note("writes acknowledged", len(acknowledged))
    run.results.note("writes refused", sum(bool(each.code) for each in written))
    run.results.equal(
        "revisions have no gap", list(range(1, last + 1)), [revision for (revision,) in found], where="at the end"
    )


@contextmanager
def _stopped(run: Run) -> Iterator[None]:
    run.cluster.stop(signal.SIGQUIT)
    yield
    run.cluster.start()


@contextmanager
def _frozen(run: Run) -> Iterator[None]:
    run.cluster.freeze(True)
    yield
    run.cluster.freeze(False)


@contextmanager
def _slow(run: Run) -> Iterator[None]:
    run.wire.delay_s = SLOW_S
    yield
    run.wire.delay_s = 0.0


def _mark(run: Run, since: float) -> float:
    """Commit past the wire, and see how long it takes from `since` until the server evaluates it. Units: seconds."""
    run.marks += 1
    wanted = "ab"[run.marks % 2]
    variants = {"a": "a", "b": "b"}
    while True:
        try:
            commit(
                run.engine, project="default", environment="production", actor="proof", now=datetime.now(UTC),
                changes=[PutFlag(flag(MARK, type="string", variants=variants, default=wanted))],
            )  # fmt: skip
        except StoreUnavailable:
            time.sleep(0.02)
        else:
            break
    with grpc.insecure_channel(f"{HOST}:{run.port}", options=_OPTIONS) as channel:
        stub = EvaluationServiceStub(channel)
        while stub.Evaluate(evaluation.EvaluateRequest(flag_key=MARK)).resolution.string_value != wanted:
            if time.monotonic() > since + WRITE_S_MAX:
                break
            time.sleep(0.01)
    return time.monotonic() - since


def _evaluate(channel: grpc.Channel) -> str:
    answer = EvaluationServiceStub(channel).Evaluate(evaluation.EvaluateRequest(flag_key=KEY), timeout=5).resolution
    return "" if answer.string_value in ("a", "b") else f"answered {answer}"


@dataclass(slots=True)
class Stream:
    """One stream, and what came by it."""

    name: str
    heard: int = 0
    revisions: list[int] = field(default_factory=list)
    ending: str = ""


@contextmanager
def _listening(port: int) -> Iterator[list[Stream]]:
    """Hold one stream of each kind open."""
    leaving = threading.Event()
    channel = grpc.insecure_channel(f"{HOST}:{port}", options=_OPTIONS)
    calls: dict[str, Callable[[], Any]] = {
        "Watch": lambda: EvaluationServiceStub(channel).Watch(evaluation.WatchRequest(flag_keys=[KEY])),
        "EventStream": lambda: ServiceStub(channel).EventStream(flagd.EventStreamRequest()),
    }
    streams = [Stream(name) for name in calls]

    def listen(stream: Stream) -> None:
        try:
            for message in calls[stream.name]():
                stream.heard += 1
                if stream.name == "Watch":
                    stream.revisions.append(message.revision)
            stream.ending = "OK"
        except grpc.RpcError as error:
            stream.ending = "" if leaving.is_set() else f"{error.code().name} {error.details()}"

    threads = [threading.Thread(target=listen, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    try:
        yield streams
    finally:
        leaving.set()
        channel.close()
        for thread in threads:
            thread.join(10)


@contextmanager
def _writing(port: int) -> Iterator[list[Written]]:
    """Write by the server's own door, again and again, by four callers."""
    ends = threading.Event()
    written: list[Written] = []

    def write(number: int) -> None:
        with grpc.insecure_channel(f"{HOST}:{port}", options=_OPTIONS) as channel:
            stub = FlagServiceStub(channel)
            while not ends.is_set():
                number += 1
                written.append(_write(stub, "ab"[number % 2]))
                ends.wait(PAUSE_S)

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield written
    finally:
        ends.set()
        for thread in threads:
            thread.join(WRITE_S_MAX)


def _write(stub: FlagServiceStub, value: str) -> Written:
    began_at = time.monotonic()
    request = flags.SetDefaultRuleRequest(project="default", environment="production", key=KEY)
    request.serve.variant = value
    try:
        result = stub.SetDefaultRule(request, timeout=WRITE_S_MAX).result
    except grpc.RpcError as error:
        status = rpc_status.from_call(cast("grpc.Call", error))
        retry = any(each.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for each in (status.details if status else ()))
        return Written(began_at, time.monotonic(), error.code().name, retry, value, 0)
    return Written(began_at, time.monotonic(), "", False, value, result.revisions.get("production", 0))
