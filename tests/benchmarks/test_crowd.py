"""A benchmark's crowd of streams hears what a server says, also with streams among it that do not read."""

import signal
import socket

from server.rpc.flagd_events import KEEP_ALIVE, READY
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.peers.crowd import END_STREAM, HEADERS, RST_STREAM, Connection, frame
from tests.benchmarks.processes import serve_streams


def test_all_but_the_stalled_streams_hear() -> None:
    """A delivery is over when every stream that reads has heard, and no stream counts twice or is lost."""
    with serve_streams(READY, KEEP_ALIVE * 20) as bare, Crowd(bare, connections=2, wanted="keep_alive") as crowd:
        crowd.open(10, stalled=4)
        delivery = crowd.deliver(lambda: bare.process.send_signal(signal.SIGUSR1))

        assert delivery.p50_ms <= delivery.p99_ms <= delivery.last_ms
        assert crowd.release() == 0


def test_it_knows_how_streams_were_ended() -> None:
    """A stream that is lost is told of with the frame that ended it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(listener.getsockname(), lambda stream, message: None)
        with listener.accept()[0] as server, connection.socket:
            streams = [connection.call("/a/b", b"", stalled=False) for _ in range(3)]
            server.sendall(frame(RST_STREAM, 0, streams[0], payload=b"\0\0\0\x08"))
            server.sendall(frame(HEADERS, END_STREAM, streams[1], payload=b"grpc-status14"))
            while len(connection.ends) < 2:
                connection.read()

    assert {streams[2]} == connection.open
    assert ["a reset: code 8", "a status, in HPACK: b'grpc-status14'"] == list(connection.ends.values())
