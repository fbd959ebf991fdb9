"""Serve a database full of mutants by a real server, and ask it over gRPC."""

import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2

from protos.flagstaff.v1 import evaluation_pb2 as ours
from tests.conformance.processes import Server, serve_database, tail
from tests.crash.mutants import Mutant
from tests.crash.poisoned import CONTEXTS, ODD_KEYS, new_database, open_raw, write_rows
from tests.crash.proofs import Results

CALL_TIMEOUT_S: Final = 20.0
RELOAD_S: Final = 0.5

STARTS: Final = "a server starts over a poisoned database, and says SERVING"
SERVES: Final = "over gRPC the good flags answer the same bytes"
STATUS: Final = "over gRPC a poisoned flag has a status that names the cause"
BULK: Final = "over gRPC a batch of all flags is answered"
LIVES: Final = "the server lives on: reads anew, stops when told, logs no traceback"

_EVALUATE: Final = "/flagstaff.v1.EvaluationService/Evaluate"
_EXPECTED: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,  # The flag is of another type.
        grpc.StatusCode.NOT_FOUND,  # It has no default variant, or is archived.
        grpc.StatusCode.DATA_LOSS,  # It is quarantined.
        grpc.StatusCode.INTERNAL,  # Its rule fails.
    }
)


def check_server(folder: Path, made: Sequence[Mutant], results: Results) -> None:
    """Start over good rows; then over the same rows and bad ones; compare, and poison it again while it serves."""
    path = folder / "served.db"
    new_database(path).dispose()
    raw = open_raw(path)
    good = _serve(folder, path, results)
    if good is None:
        return
    keys = [key for (key,) in raw.execute("SELECT key FROM flag_config ORDER BY key")]
    with _channel(good) as channel:
        answers = {key: _answers(channel, key) for key in keys}
    good.stop()
    odd = iter(ODD_KEYS)
    write_rows(raw, made[::2], odd_key=lambda: next(odd, None))
    poisoned = _serve(folder, path, results)
    if poisoned is None:
        return
    try:
        with _channel(poisoned) as channel:
            _ask(channel, answers, _poisoned_keys(raw, keys), results)
            write_rows(raw, made[1::2], odd_key=lambda: None)
            poisoned.process.send_signal(signal.SIGHUP)
            time.sleep(RELOAD_S)
            _ask(channel, answers, _poisoned_keys(raw, keys), results)
    finally:
        raw.close()
        is_alive = poisoned.process.poll() is None
        poisoned.stop()
    log = poisoned.log.read_text(encoding="utf-8", errors="replace")
    is_well = is_alive and poisoned.process.returncode == 0 and "Traceback" not in log
    results.check(LIVES, is_well, f"exit code {poisoned.process.returncode}:\n{tail(poisoned.log)}")


def _serve(folder: Path, path: Path, results: Results) -> Server | None:
    try:
        server = serve_database(folder, f"sqlite:///{path}")
    except AssertionError as error:
        results.check(STARTS, False, str(error))
        return None
    with _channel(server) as channel:
        raw = _call(channel, "/grpc.health.v1.Health/Check", b"")
    status = health_pb2.HealthCheckResponse.FromString(raw).status
    results.check(STARTS, status == health_pb2.HealthCheckResponse.SERVING, f"status {status}")
    return server


def _poisoned_keys(raw: sqlite3.Connection, good: Sequence[str]) -> list[str]:
    found = raw.execute("SELECT CAST(key AS BLOB) FROM flag_config").fetchall()
    return sorted({key.decode("utf-8", "replace") for (key,) in found} - set(good))


def _ask(channel: grpc.Channel, answers: dict[str, list[bytes]], poisoned: Sequence[str], results: Results) -> None:
    for key, before in answers.items():
        results.equal(SERVES, before, _answers(channel, key), where=key)
    for key in poisoned:
        for path in (
            _EVALUATE,
            "/flagd.evaluation.v2.Service/ResolveBoolean",
            "/flagd.evaluation.v1.Service/ResolveObject",
        ):
            code, words = _status(channel, path, _request(key, CONTEXTS[1]))
            expected = {grpc.StatusCode.OK} if path == _EVALUATE else _EXPECTED
            results.check(STATUS, code in expected, f"{path} {key!r}: {code} {words}")
    everything = ours.EvaluateBatchRequest(contexts=[_struct(context) for context in CONTEXTS])
    for path, raw in (
        ("/flagstaff.v1.EvaluationService/EvaluateBatch", everything.SerializeToString()),
        ("/flagd.evaluation.v1.Service/ResolveAll", b""),
    ):
        code, words = _status(channel, path, raw)
        results.check(BULK, code is grpc.StatusCode.OK, f"{path}: {code} {words}")


def _answers(channel: grpc.Channel, key: str) -> list[bytes]:
    """The encoded resolutions, without the revision."""
    replies = [_call(channel, _EVALUATE, _request(key, context)) for context in CONTEXTS]
    return [
        ours.EvaluateResponse.FromString(reply).resolution.SerializeToString(deterministic=True) for reply in replies
    ]


def _request(key: str, context: Any) -> bytes:
    # Both protocols have the key and the context under the same numbers.
    return ours.EvaluateRequest(flag_key=key, context=_struct(context)).SerializeToString()


def _struct(context: Any) -> Struct:
    struct = Struct()
    struct.update(dict(context))
    return struct


def _channel(server: Server) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)])


def _call(channel: grpc.Channel, path: str, raw: bytes) -> bytes:
    method: Any = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    reply: bytes = method(raw, timeout=CALL_TIMEOUT_S)
    return reply


def _status(channel: grpc.Channel, path: str, raw: bytes) -> tuple[grpc.StatusCode, str]:
    try:
        _call(channel, path, raw)
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    return grpc.StatusCode.OK, ""
