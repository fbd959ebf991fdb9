"""A process that does timed work as a server does, with a clock that can be set: run by the proofs of it.

    python -m tests.crash.timed_worker URL

It says `ready` when it looks, and ends with its standard input. Each line there is a command: `clock SECONDS` sets its
clock so far beside the system's; `observe SEQUENCE ERRORS REQUESTS` records a batch, and says what became of it.
"""

import sys
import threading
from datetime import UTC, datetime, timedelta

from server.core.metrics.batches import Batch, Series
from server.operations.freezes import permit_unless_frozen
from server.operations.guards.judging import Judging
from server.operations.metrics import Observing
from server.operations.writes import Writer
from server.scheduling.clockwork import Clockwork
from server.scheduling.nouns import timed_nouns
from server.store.engine import open_engine


class SetClock:
    """The system's clock, and so many seconds beside it."""

    def __init__(self) -> None:
        self.beside_s = 0.0

    def __call__(self) -> datetime:
        """What it shows."""
        return datetime.now(UTC) + timedelta(seconds=self.beside_s)


def main() -> None:
    """Do what is due until standard input ends."""
    engine, clock = open_engine(sys.argv[1]), SetClock()
    writer = Writer(engine, (permit_unless_frozen,))
    judging = Judging(engine, writer, clock)
    clockwork = Clockwork(engine, timed_nouns(writer, judging), clock=clock)
    judging.wake = clockwork.wake
    observing = Observing(engine, clock, judging.observed)
    clockwork.start()
    print("ready", flush=True)
    threading.current_thread().name = "input"
    for line in sys.stdin:
        name, *values = line.split()
        if name == "clock":
            clock.beside_s = float(values[0])
            print("set", flush=True)
        else:
            print(_observe(observing, *map(int, values)), flush=True)
    clockwork.stop()
    engine.dispose()


def _observe(observing: Observing, sequence: int, errors: int, requests: int) -> str:
    """Record requests one by one, of which the first so many failed."""
    values = [1.0] * errors + [0.0] * (requests - errors)
    series = Series("errors", values, [1.0] * requests, "f0", "on")
    (ack,) = observing.take([Batch("shop", "production", "producer", sequence, [series])])
    return str(ack.taken.value)


if __name__ == "__main__":
    main()
