"""Reserve ports for a group of processes, so that no other server gets a share of their connections by accident."""

import contextlib
import errno
import socket
from collections.abc import Iterator, Sequence
from typing import Final

ATTEMPTS_MAX: Final = 20
"""For a port that the system chooses: it may be free on one of a host's addresses and taken on the next."""

_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class PortUnavailable(OSError):
    """A port that cannot be had for this group alone."""


@contextlib.contextmanager
def reserved(host: str, ports: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Hold ports for as long as the block runs; port 0 becomes a free one.

    Processes of the same user can listen on them with SO_REUSEPORT; whoever listens without it is refused, and so is
    a second group. Errors: PortUnavailable.
    """
    with contextlib.ExitStack() as held:
        taken: list[int] = []
        for place, port in enumerate(ports):
            if port != 0 and port in ports[:place]:
                taken.append(port)
            else:
                taken.append(_hold_everywhere(host, port, held=held))
        yield tuple(taken)


def _hold_everywhere(host: str, port: int, *, held: contextlib.ExitStack) -> int:
    """Hold a port on every address of the host; `localhost` has one of IPv4 and one of IPv6."""
    for attempt in range(ATTEMPTS_MAX):
        chosen = port
        with contextlib.ExitStack() as attempted:
            try:
                for family, address in _addresses(host):
                    chosen = _hold_if_there(family, address, chosen, held=attempted) or chosen
                if chosen == 0:
                    raise OSError(errno.EADDRNOTAVAIL, "the host has no address here")
            except OSError as error:
                if port != 0 or attempt == ATTEMPTS_MAX - 1 or error.errno != errno.EADDRINUSE:
                    raise PortUnavailable(_message(host, port, error)) from None
                continue
            held.push(attempted.pop_all())
            return chosen
    raise AssertionError("the last attempt returns or raises")


def _message(host: str, port: int, error: OSError) -> str:
    why = error.strerror or str(error)
    return f"cannot listen on {host}:{port} ({why}); is another server running there? Choose another port"


def _addresses(host: str) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _hold_if_there(family: int, address: str, port: int, *, held: contextlib.ExitStack) -> int | None:
    """The port that is held now; None for an address that this machine does not have, as ::1 in many containers."""
    try:
        holder = _hold(family, address, port)
    except OSError as error:
        if error.errno in _NO_SUCH_ADDRESS:
            return None
        raise
    held.enter_context(holder)
    return int(holder.getsockname()[1])


def _hold(family: int, address: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen, so that it gets no connections.

    First a socket listens alone: that fails when anybody listens there or holds the port, however they share it, and
    of two groups that start at once only one succeeds. (SO_REUSEADDR is for what earlier connections left behind, and
    means nothing between sockets of which one listens.) Then it admits others with SO_REUSEPORT, and hands over to
    the one that stays, which without SO_REUSEADDR keeps everybody else out, also while no worker listens.
    """
    with socket.socket(family, socket.SOCK_STREAM) as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind((address, port))
        first.listen(1)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder = socket.socket(family, socket.SOCK_STREAM)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((address, first.getsockname()[1]))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            holder.close()
            raise
        return holder
