"""Work alone by a lease, in a process of its own: a line for every effect, and one when the right is lost.

Run as: python -m tests.live.lone_worker DATABASE_URL EFFECTS_FILE TTL_S
"""

import sys
import time
from pathlib import Path

from server.core.errors import LeaseLost
from server.live.background import Hold, run_alone
from server.store.engine import open_engine

STEP_S = 0.02


def main(url: str, effects: str, ttl_s: str) -> None:
    """Try until the work was done here once."""
    engine, path = open_engine(url), Path(effects)

    def work(hold: Hold) -> None:
        print(f"working {hold.lease.token}", flush=True)
        try:
            # Without a look at `lost`: the fence must hold for work that does not listen too.
            while True:
                with hold.fenced(), path.open("a", encoding="utf-8") as file:
                    file.write(f"{hold.lease.token}\n")
                time.sleep(STEP_S)
        except LeaseLost:
            print(f"lost {hold.lease.token}", flush=True)

    while not run_alone(engine, "sweep", work, ttl_s=float(ttl_s)):
        time.sleep(STEP_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
