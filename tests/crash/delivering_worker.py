"""A process that delivers as a server does, by a clock that all of them share: run by the proof of deliveries.

    python -m tests.crash.delivering_worker URL CLOCK

It says `ready` when it delivers, and ends gracefully with SIGTERM or its standard input. CLOCK is a file with the
seconds that the database's clock is ahead of itself: leases of who was killed end at once by it, for everybody alike.
Each line of its input is a command: `enable ENDPOINT` enables an endpoint and replays what it missed.
"""

import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine

from server.operations.deliveries.keeping import Retention
from server.scheduling.deliveries import DeliveryClock
from server.scheduling.delivering import Delivering, Sender
from server.store.engine import database_now, open_engine, reading, writing
from tests.webhooks.subscribing import MASTER
from webhooks.addresses import read_allowed
from webhooks.endpoints import enable
from webhooks.finished import Wanted, replay
from webhooks.notices import KeptNotices

Now = Callable[[Connection], datetime]
PORTION = 3
"""So few are replayed in a transaction that a kill falls between two of them."""


def main() -> None:
    """Deliver until told to stop."""
    engine = open_engine(sys.argv[1])
    ahead = Path(sys.argv[2])

    def now(connection: Connection) -> datetime:
        return database_now(connection) + timedelta(seconds=float(ahead.read_text()))

    sender = Sender((MASTER,), read_allowed(["127.0.0.1"]), "http://flagstaff")
    clock = DeliveryClock(engine, lambda: Delivering(engine, sender, now=now), retention=Retention())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    clock.start()
    print("ready", flush=True)
    threading.Thread(target=_obey, args=(engine, now, ended), daemon=True).start()
    ended.wait()
    clock.stop(timeout_s=30.0)
    engine.dispose()


def _obey(engine: Engine, now: Now, ended: threading.Event) -> None:
    for line in sys.stdin:
        _, endpoint_id = line.split()
        _make_up(engine, now, endpoint_id)
        print("done", flush=True)
    ended.set()


def _make_up(engine: Engine, now: Now, endpoint_id: str) -> None:
    with reading(engine) as connection:
        begun_at = now(connection)
    with writing(engine, about="replaying") as connection:
        enable(connection, endpoint_id, notices=KeptNotices())
    count = 1
    while count:
        with writing(engine, about="replaying") as connection:
            wanted = Wanted(endpoint_id)
            count = replay(connection, wanted, finished_by=begun_at, now=begun_at, limit=PORTION)


if __name__ == "__main__":
    main()
