"""Deliver as a server does, and do nothing else, until SIGTERM."""

import json
import signal
import sys
import threading

from server.operations.deliveries.keeping import Retention
from server.scheduling.deliveries import DeliveryClock
from server.scheduling.delivering import Delivering, Sender
from server.store.engine import open_engine
from tests.webhooks.dispatching import MASTER
from webhooks.addresses import read_allowed


def main(url: str) -> None:
    """Over this database, to receivers at the loopback address."""
    # As a server's threads do, see server/running.py.
    sys.setswitchinterval(0.0005)
    engine = open_engine(url)
    sender = Sender((MASTER,), read_allowed(["127.0.0.1"]), "http://flagstaff")
    clock = DeliveryClock(engine, lambda: Delivering(engine, sender), retention=Retention())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    clock.start()
    print(json.dumps({"grpc_port": 0}), flush=True)
    ended.wait()
    clock.stop(timeout_s=10.0)
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
