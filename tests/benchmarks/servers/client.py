"""Send requests with grpcio, where h2load is not installed; prints how many seconds they took."""

import asyncio
import sys
import time
from pathlib import Path

import grpc.aio

_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 1024 * 1024))


def _messages(body: bytes) -> list[bytes]:
    messages, place = [], 0
    while place < len(body):
        size = int.from_bytes(body[place + 1 : place + 5], "big")
        messages.append(body[place + 5 : place + 5 + size])
        place += 5 + size
    return messages


async def _send(
    target: str, path: str, messages: list[bytes], *, count: int, connections: int, in_flight: int
) -> float:
    channels = [grpc.aio.insecure_channel(target, options=_OPTIONS) for _ in range(connections)]
    left = iter(range(count))

    async def unary(channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary(path, None, None)
        for _ in left:
            await call(messages[0])

    async def stream(channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream(path, None, None)
        for _ in left:
            async for _reply in call(iter(messages)):
                pass

    work = unary if len(messages) == 1 else stream
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    start = time.perf_counter()
    await asyncio.gather(*(work(channel) for channel in channels for _ in range(in_flight)))
    taken_s = time.perf_counter() - start
    for channel in channels:
        await channel.close(None)
    return taken_s


def main() -> None:
    """Arguments: target, path, file with framed messages, calls, connections, calls in flight on each."""
    target, path, body = sys.argv[1:4]
    count, connections, in_flight = map(int, sys.argv[4:])
    messages = _messages(Path(body).read_bytes())
    print(asyncio.run(_send(target, path, messages, count=count, connections=connections, in_flight=in_flight)))


if __name__ == "__main__":
    main()
