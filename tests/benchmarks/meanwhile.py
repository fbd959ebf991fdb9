"""Measure what evaluation's latencies do while other work runs in the same server."""

import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from protos.flagstaff.v1 import audit_pb2 as audit
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import segments_pb2 as segments
from server.store.engine import open_engine
from tests.benchmarks import audit as trail
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, Spread, spread
from tests.benchmarks.load import ask_once, latencies_ms, percentile
from tests.benchmarks.processes import HOST, Running, import_document, serve
from tests.benchmarks.samples import batch_document
from tests.benchmarks.unary import EVALUATE, evaluate_request

PER_S: Final = 200
"""Evaluations, by a client that leaves the server's core half free."""

ROUNDS: Final = 3
ROUND_S: Final = 3
COMMITS_PER_S: Final = 20
KEYS: Final = 1_000_000
KEYS_EACH: Final = 10_000
KEYS_AT_ONCE: Final = 100_000
ENTRIES: Final = 200_000
CHANGED: Final = "static-boolean"
SHARES: Final = {"p50": 0.5, "p99": 0.99}
GOAL: Final = Goal("ratio", LOWER, 1.2)
SEGMENT: Final = {"project": "default", "environment": "production", "key": "crowd"}
SET_TARGETS: Final = "/flagstaff.v1.FlagService/SetTargets"
CREATE_SEGMENT: Final = "/flagstaff.v1.SegmentService/CreateSegment"
ADD_KEYS: Final = "/flagstaff.v1.SegmentService/AddSegmentKeys"
REMOVE_KEYS: Final = "/flagstaff.v1.SegmentService/RemoveSegmentKeys"
VERIFY: Final = "/flagstaff.v1.AuditService/VerifyAuditTrail"


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do over and over, beside evaluation."""

    name: str
    step: Callable[[grpc.Channel], None]
    every_s: float = 0.0
    """A step begins this long after the one before, if that has ended; 0: at once."""

    goal: Goal | None = None


@dataclass(slots=True)
class Rounds:
    """Latencies by share, round by round, each round without the work and with it. Units: ms."""

    without: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SHARES})
    beside: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SHARES})
    steps_per_s: list[float] = field(default_factory=list)


def run(say: Say) -> list[Figure]:
    """A server over SQLite, with a segment of a million keys and a long trail of another project."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = import_document(batch_document(), folder)[0]
        say(f"a trail of {ENTRIES:,} entries")
        engine = open_engine(url)
        trail.fill(engine, trail.SMALL, entry_count=ENTRIES)
        engine.dispose()
        server = stack.enter_context(serve(url, "--last-known-good", "off"))
        channel = stack.enter_context(grpc.insecure_channel(f"{HOST}:{server.port}"))
        say(f"a segment of {KEYS:,} keys")
        _make_segment(channel)
        ask_once(server, EVALUATE, evaluate_request())
        return [figure for work in _works() for figure in _figures(_measured(server, channel, work, say), work)]


def _works() -> list[Work]:
    numbers = itertools.count()
    return [
        Work(f"{COMMITS_PER_S} commits a second", lambda channel: _commit(channel, next(numbers)), 1 / COMMITS_PER_S,
             GOAL),
        Work("commits, one after the other", lambda channel: _commit(channel, next(numbers)), 0, GOAL),
        Work(f"bulk edits of {KEYS_EACH:,} keys", lambda channel: _edit_keys(channel, next(numbers)), 0, GOAL),
        Work("verifications of a trail", _verify, 0, GOAL),
    ]  # fmt: skip


def _measured(server: Running, channel: grpc.Channel, work: Work, say: Say) -> Rounds:
    say(f"{PER_S} evaluations a second beside: {work.name}; {ROUNDS} rounds of 2 x {ROUND_S} s")
    rounds = Rounds()
    for _ in range(ROUNDS):
        _note(rounds.without, server)
        steps = _Steps(work, channel)
        steps.start()
        _note(rounds.beside, server)
        rounds.steps_per_s.append(steps.end() / ROUND_S)
    return rounds


def _note(into: Mapping[str, list[float]], server: Running) -> None:
    latencies = latencies_ms(server, EVALUATE, evaluate_request(), per_s=PER_S, duration_s=ROUND_S)
    for name, share in SHARES.items():
        into[name].append(percentile(latencies, share))


class _Steps(threading.Thread):
    """Does the work until it is ended; tells how many steps it did, and fails when one did."""

    def __init__(self, work: Work, channel: grpc.Channel) -> None:
        super().__init__(daemon=True)
        self._work, self._channel = work, channel
        self._ended = threading.Event()
        self._count = 0
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self._work.step(self._channel)
                self._count += 1
                self._ended.wait(self._work.every_s)
        except Exception as error:
            self._error = error

    def end(self) -> int:
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error
        return self._count


def _figures(rounds: Rounds, work: Work) -> list[Figure]:
    rate = spread(rounds.steps_per_s)
    return [
        Figure(
            f"{work.name}: {name}", "ms", spread(rounds.beside[name]), "without", spread(rounds.without[name]),
            _ratio(rounds, name), work.goal if name == "p99" else None,
            note=f"{rate.median:.1f} steps a second" if name == "p99" else "",
        )
        for name in SHARES
    ]  # fmt: skip


def _ratio(rounds: Rounds, name: str) -> Spread:
    return spread([mine / other for mine, other in zip(rounds.beside[name], rounds.without[name], strict=True)])


def _commit(channel: grpc.Channel, number: int) -> None:
    request = flags.SetTargetsRequest(project="default", environment="production", key=CHANGED)
    request.add.add(variant="on", keys=[f"user-{number % 2}"])
    request.remove.append(f"user-{1 - number % 2}")
    channel.unary_unary(SET_TARGETS, None, None)(request.SerializeToString(), timeout=60)


def _edit_keys(channel: grpc.Channel, number: int) -> None:
    path = (ADD_KEYS, REMOVE_KEYS)[number % 2]
    keys = [f"another-{place:07}" for place in range(KEYS_EACH)]
    channel.stream_unary(path, None, None)(iter([_keys(keys, first=True, last=True)]), timeout=60)


def _verify(channel: grpc.Channel) -> None:
    request = audit.VerifyAuditTrailRequest(project="shop")
    channel.unary_unary(VERIFY, None, None)(request.SerializeToString(), timeout=60)


def _make_segment(channel: grpc.Channel) -> None:
    new = segments.CreateSegmentRequest(project="default", environment="production")
    new.segment.key = SEGMENT["key"]
    new.segment.key_list.SetInParent()
    channel.unary_unary(CREATE_SEGMENT, None, None)(new.SerializeToString(), timeout=60)
    channel.stream_unary(ADD_KEYS, None, None)(_all_keys(), timeout=120)


def _all_keys() -> Iterator[bytes]:
    for start in range(0, KEYS, KEYS_AT_ONCE):
        keys = [f"user-{number:07}" for number in range(start, start + KEYS_AT_ONCE)]
        yield _keys(keys, first=not start, last=start + KEYS_AT_ONCE >= KEYS)


def _keys(keys: list[str], *, first: bool, last: bool) -> bytes:
    where: dict[str, Any] = SEGMENT if first else {}
    raw: bytes = segments.ChangeSegmentKeysRequest(**where, keys=keys, last=last).SerializeToString()
    return raw
