"""Hold thousands of streams to one server, and record what each is told: a client driver in a process of its own.

Half are Watch, half are EventStream of flagd.evaluation.v1. Each comes back by itself when it is lost; a Watch does so
with its resume token. Talks as tests/conformance/clients/README.md says.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from protos.flagd.evaluation.v1 import evaluation_pb2 as flagd
from protos.flagd.evaluation.v1.evaluation_pb2_grpc import ServiceStub
from protos.flagstaff.v1 import evaluation_pb2 as ours
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub

OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
PAUSE_S: Final = 0.2
"""The longest that a stream waits by itself before it comes back: a storm is wanted."""

POLL_S: Final = 0.02


@dataclass(slots=True)
class Stream:
    """One subscription, through all its calls."""

    since: float | None = None
    """When its present call had its first message, of the clock that all processes share; None without one."""

    told: list[tuple[int, str, int, int | None]] = field(default_factory=list)
    """Of Watch: number of the call, kind, revision, and the flag's value where it was told."""

    first_types: list[str] = field(default_factory=list)
    """Of EventStream: the type of each call's first event."""

    heard: int = 0
    """Of EventStream: changes of the flag."""

    heard_before: int = 0
    """As many there were when this was last noted."""


class Crowd:
    """All streams of one process."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.watches: list[Stream] = []
        self.listeners: list[Stream] = []
        self.endings: Counter[str] = Counter()
        """Status -> how many calls ended with it."""

    def join(self, stub: Any, *, is_watch: bool) -> asyncio.Task[None]:
        """Open one more stream."""
        stream = Stream()
        (self.watches if is_watch else self.listeners).append(stream)
        return asyncio.create_task(self._follow(self._watch if is_watch else self._listen, stub, stream))

    async def _follow(self, call: Any, stub: Any, stream: Stream) -> None:
        number, token = 0, b""
        while True:
            number += 1
            try:
                token = await call(stub, stream, number=number, token=token)
                self.endings["OK"] += 1
            except grpc.aio.AioRpcError as error:
                self.endings[error.code().name] += 1
            stream.since = None
            await asyncio.sleep(random.uniform(0, PAUSE_S))

    async def _watch(self, stub: Any, stream: Stream, *, number: int, token: bytes) -> bytes:
        request = ours.WatchRequest(flag_keys=[self._key], resume_token=token)
        async for message in stub.Watch(request, wait_for_ready=True):
            stream.since = stream.since or time.monotonic()
            kind = ours.WatchResponse.Kind.Name(message.kind).removeprefix("KIND_")
            value = message.resolutions[0].int_value if message.resolutions else None
            stream.told.append((number, kind, message.revision, value))
            token = message.resume_token or token
        return token

    async def _listen(self, stub: Any, stream: Stream, *, number: int, token: bytes) -> bytes:
        async for event in stub.EventStream(flagd.EventStreamRequest(), wait_for_ready=True):
            if stream.since is None:
                stream.first_types.append(event.type)
            stream.since = stream.since or time.monotonic()
            stream.heard += event.type == "configuration_change" and self._key in event.data["flags"]
        return token

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """What was asked for; None while it has still to come."""
        everybody = [*self.watches, *self.listeners]
        match request["op"]:
            case "back":
                since = [stream.since for stream in everybody if stream.since and stream.since > request["after"]]
                last = max(since, default=0.0)
                return {"count": len(since), "last": last} if len(since) == len(everybody) else None
            case "reach":
                reached = all(stream.told and stream.told[-1][2] >= request["revision"] for stream in self.watches)
                heard = not request["hear"] or all(stream.heard > stream.heard_before for stream in self.listeners)
                return {"reached": True} if reached and heard else None
            case "note":
                for stream in self.listeners:
                    stream.heard_before = stream.heard
                return {}
            case "histories":
                told = [stream.told for stream in self.watches]
                firsts = [stream.first_types for stream in self.listeners]
                return {"told": told, "first_types": firsts, "endings": dict(self.endings)}
            case unknown:
                return {"error": f"unknown op {unknown!r}"}

    def count(self) -> dict[str, int]:
        """How many streams have a call that is answered."""
        return {"count": sum(stream.since is not None for stream in (*self.watches, *self.listeners))}


async def main() -> None:
    """Open streams as the first line says, then answer one line with one line until the input ends."""
    config = json.loads(sys.stdin.readline())
    crowd = Crowd(config["key"])
    tasks, channels = [], []
    for place in range(config["connections"]):
        channels.append(grpc.aio.insecure_channel(f"{config['host']}:{config['port']}", options=OPTIONS))
        stubs = EvaluationServiceStub(channels[-1]), ServiceStub(channels[-1])
        for number in range(place, config["streams"], config["connections"]):
            is_watch = number // config["connections"] % 2 == 0
            tasks.append(crowd.join(stubs[0] if is_watch else stubs[1], is_watch=is_watch))
    print(json.dumps({"ready": True, "error": None, "client": f"grpcio {grpc.__version__}"}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        print(json.dumps({"id": request["id"], **await _answer(crowd, request)}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close(None)


async def _answer(crowd: Crowd, request: dict[str, Any]) -> dict[str, Any]:
    """Wait for what was asked for, but not longer than the question says."""
    until = time.monotonic() + request.get("timeoutMs", 0) / 1000
    while (answer := crowd.answer(request)) is None and time.monotonic() < until:
        await asyncio.sleep(POLL_S)
    return crowd.count() if answer is None else answer


if __name__ == "__main__":
    asyncio.run(main())
