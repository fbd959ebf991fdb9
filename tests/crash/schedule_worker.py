"""A process that executes schedules as a server does, with a clock that can be set: run by the proof of schedules.

    python -m tests.crash.schedule_worker URL

It says `ready` when it looks, and ends with its standard input. Each line there sets its clock: so many seconds beside
the system's.
"""

import sys
import threading
from datetime import UTC, datetime, timedelta

from server.operations.freezes import permit_unless_frozen
from server.operations.schedules.executing import Executing
from server.operations.writes import Writer
from server.scheduling.clockwork import Clockwork
from server.scheduling.schedules import DueSchedules
from server.store.engine import open_engine


class SetClock:
    """The system's clock, and so many seconds beside it."""

    def __init__(self) -> None:
        self.beside_s = 0.0

    def __call__(self) -> datetime:
        """What it shows."""
        return datetime.now(UTC) + timedelta(seconds=self.beside_s)


def main() -> None:
    """Execute what is due until standard input ends."""
    engine, clock = open_engine(sys.argv[1]), SetClock()
    executing = Executing(Writer(engine, (permit_unless_frozen,)))
    clockwork = Clockwork(engine, [DueSchedules(executing)], clock=clock)
    clockwork.start()
    print("ready", flush=True)
    threading.current_thread().name = "input"
    for line in sys.stdin:
        clock.beside_s = float(line)
        print("set", flush=True)
    clockwork.stop()
    engine.dispose()


if __name__ == "__main__":
    main()
