"""A group's ports are its own, whoever else tries to listen there."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from server.workers.ports import PortUnavailable, reserved

HOST = "127.0.0.1"


@contextlib.contextmanager
def bound(port: int, *options: int, host: str = HOST, listen: bool = True) -> Iterator[int]:
    """A socket with these options, as another program would have it; the port it got."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        for option in options:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind((host, port))
        if listen:
            other.listen(1)
        yield other.getsockname()[1]


def is_reserved(port: int, host: str = HOST) -> bool:
    """Whether a second group is refused."""
    try:
        with reserved(host, (port,)):
            return False
    except PortUnavailable:
        return True


def test_a_second_group_is_refused() -> None:
    """Also when it would listen on all addresses; free again when the first has ended."""
    with reserved(HOST, (0,)) as (port,):
        held = [is_reserved(port), is_reserved(port, "0.0.0.0")]

    assert ([True, True], False) == (held, is_reserved(port))


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,)])
@pytest.mark.parametrize("workers_listen", [False, True])
def test_a_single_server_is_refused(options: tuple[int, ...], workers_listen: bool) -> None:
    """While workers listen, and while none does because they are being replaced."""
    with reserved(HOST, (0,)) as (port,), contextlib.ExitStack() as worker:
        if workers_listen:
            worker.enter_context(bound(port, socket.SO_REUSEADDR, socket.SO_REUSEPORT))
        with pytest.raises(OSError, match="in use"), bound(port, *options):
            pass


def test_workers_share_the_port() -> None:
    """The reserved socket does not listen, so every connection reaches one of them."""
    with (
        reserved(HOST, (0,)) as (port,),
        bound(port, socket.SO_REUSEADDR, socket.SO_REUSEPORT),
        bound(port, socket.SO_REUSEPORT),
        contextlib.closing(socket.create_connection((HOST, port), timeout=10)) as client,
    ):
        assert (HOST, port) == client.getpeername()


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,)])
@pytest.mark.parametrize("host", [HOST, "0.0.0.0"])
def test_a_port_in_use_is_refused(options: tuple[int, ...], host: str) -> None:
    """Also when its owner would share it: a forgotten server would get a part of the connections."""
    with (
        bound(0, *options, host=host) as port,
        pytest.raises(PortUnavailable, match=f"cannot listen on {HOST}:{port} .Address already in use.*another server"),
        reserved(HOST, (port,)),
    ):
        pass


def test_of_groups_that_start_at_once_one_wins() -> None:
    """However they interleave."""
    with reserved(HOST, (0,)) as (port,):
        pass
    starting, ending = threading.Barrier(8), threading.Barrier(8)
    winners: list[int] = []

    def start(number: int) -> None:
        starting.wait()
        try:
            with reserved(HOST, (port,)):
                winners.append(number)
                ending.wait()
        except PortUnavailable:
            ending.wait()

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(winners)


def test_connections_that_ended_lately_do_no_harm() -> None:
    """A server can be started again at once, though the system remembers its connections for a minute."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection((HOST, port), timeout=10)
        accepted, _ = listener.accept()
        # The side that closes first keeps the port in TIME_WAIT.
        accepted.close()
        client.close()

    with pytest.raises(OSError, match="in use"), bound(port):
        pass
    assert not is_reserved(port)


def test_two_uses_of_one_port() -> None:
    """A port that is named twice is held once; two that are free are two."""
    with reserved(HOST, (0, 0)) as (one, two):
        assert one != two
    with reserved(HOST, (one, one)) as ports:
        assert (one, one) == ports


def test_a_name_with_several_addresses() -> None:
    """The port is held on each that this machine has."""
    with reserved("localhost", (0,)) as (port,):
        assert is_reserved(port)


def test_a_name_that_nobody_knows() -> None:
    """Is refused with its name."""
    with (
        pytest.raises(PortUnavailable, match=r"cannot listen on no-such-host\.invalid:0"),
        reserved("no-such-host.invalid", (0,)),
    ):
        pass
