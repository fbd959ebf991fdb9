"""Hold many subscriptions to one flag with our own API and stubs, as a client driver (see ../README.md).

Each comes back by itself when it is lost, with its resume token, and all that it was told is recorded.
"""

import asyncio
import json
import random
import sys
from typing import Any, Final

import grpc

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub

STREAMS_PER_CHANNEL: Final = 25
OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
PAUSE_S: Final = 0.5


class Herd:
    """What every subscription was told, in order: revision and value."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._arrived = asyncio.Event()
        self.histories: list[list[tuple[int, str]]] = []

    async def follow(self, stub: Any, place: int) -> None:
        """Subscribe, and again whenever the stream ends."""
        history, token = self.histories[place], b""
        while True:
            request = messages.WatchRequest(flag_keys=[self._key], resume_token=token)
            try:
                async for message in stub.Watch(request, wait_for_ready=True):
                    token = message.resume_token or token
                    history.extend((message.revision, each.string_value) for each in message.resolutions)
                    self._arrived.set()
            except grpc.aio.AioRpcError as error:
                print(place, error.code().name, error.details(), file=sys.stderr)
            await asyncio.sleep(random.uniform(0, PAUSE_S))

    async def reach(self, value: str, timeout_s: float) -> int:
        """How many subscriptions were last told this value: all of them, or as many as in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._count(value) < len(self.histories):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass
        return self._count(value)

    def _count(self, value: str) -> int:
        return sum(bool(history) and history[-1][1] == value for history in self.histories)


async def main() -> None:
    """Subscribe as the first line says, then answer one line with one line until the input ends."""
    config = json.loads(sys.stdin.readline())
    herd = Herd(config["key"])
    tasks, channels, stub = [], [], None
    for place in range(config["streams"]):
        if place % STREAMS_PER_CHANNEL == 0:
            channels.append(grpc.aio.insecure_channel(f"{config['host']}:{config['port']}", options=OPTIONS))
            stub = EvaluationServiceStub(channels[-1])
        herd.histories.append([])
        tasks.append(asyncio.create_task(herd.follow(stub, place)))
    _say({"ready": True, "error": None, "client": f"grpcio {grpc.__version__}"})
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        _say({"id": request["id"], **await _answer(herd, request)})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close(None)


async def _answer(herd: Herd, request: dict[str, Any]) -> dict[str, Any]:
    match request["op"]:
        case "reach":
            return {"count": await herd.reach(request["value"], request["timeoutMs"] / 1000)}
        case "histories":
            return {"histories": herd.histories}
        case unknown:
            return {"error": f"unknown op {unknown!r}"}


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
