"""A benchmark's crowd of streams hears what a server says, also with streams among it that do not read."""

import signal

from server.rpc.flagd_events import KEEP_ALIVE, READY
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.processes import serve_streams


def test_all_but_the_stalled_streams_hear() -> None:
    """A delivery is over when every stream that reads has heard, and no stream counts twice or is lost."""
    with serve_streams(READY, KEEP_ALIVE * 20) as bare, Crowd(bare, connections=2, wanted="keep_alive") as crowd:
        crowd.open(10, stalled=4)
        delivery = crowd.deliver(lambda: bare.process.send_signal(signal.SIGUSR1))

        assert delivery.p50_ms <= delivery.p99_ms <= delivery.last_ms
        assert crowd.release() == 0
