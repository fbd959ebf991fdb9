"""Find ports that stay free while nobody listens on them."""

import random
import socket
from contextlib import ExitStack
from typing import Final

_HOST: Final = "127.0.0.1"
LOW_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to clients and to who asks for any: a stopped server gets its port back, and a
client that tries a port where nobody is does not connect to itself."""

_chance: Final = random.SystemRandom()


def low_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now. All are held until the last is found."""
    with ExitStack() as stack:
        return [_bound(stack.enter_context(socket.socket())) for _ in range(count)]


def _bound(holder: socket.socket) -> int:
    while True:
        port = _chance.choice(LOW_PORTS)
        try:
            holder.bind((_HOST, port))
        except OSError:
            continue
        return port
