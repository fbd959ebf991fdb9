"""Serve as one process of a group, told by the group's master what to serve, and end when the master ends."""

import base64
import json
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable

from server.collector import collect_seldom
from server.core.errors import FlagstaffError
from server.core.json import Json
from server.telemetry import set_up_logging
from server.workers.group import STOP_MARGIN_S, Job

log = logging.getLogger("flagstaff.workers")


def main() -> None:
    """Read the job from standard input, serve, and tell the master on standard output."""
    collect_seldom()
    job: Job = pickle.loads(base64.b64decode(sys.stdin.buffer.readline()))
    master = os.dup(sys.stdout.fileno())
    # What anything in this process prints must not be taken for a message to the master.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    set_up_logging(as_json=job.log_json, level=job.log_level)
    patience_s = job.settings.drain_delay_s + job.settings.drain_grace_s + STOP_MARGIN_S
    threading.Thread(target=_end_with_master, args=(patience_s,), name="flagstaff-master", daemon=True).start()
    try:
        _run(job, lambda told: _tell(master, told))
    except (FlagstaffError, OSError) as error:
        _tell(master, {"event": "failed", "message": str(error)})
        sys.exit(1)


def _run(job: Job, started: Callable[[dict[str, Json]], None]) -> None:
    # What they import takes a while, and less from here on.
    if job.manages:
        from server.manager import run_manager  # noqa: PLC0415

        run_manager(job.settings, started=started)
    else:
        from server.app import run  # noqa: PLC0415

        run(job.settings, started=started, shared_ports=True)


def _tell(master: int, told: dict[str, Json]) -> None:
    os.write(master, json.dumps(told).encode() + b"\n")


def _end_with_master(patience_s: float) -> None:
    """Stop this process when the master is no more; it would hold the ports with nobody to end it."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    log.error("the master process is gone; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(1)


if __name__ == "__main__":
    main()
