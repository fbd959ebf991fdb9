"""A process that changes flags, and notes each commit that returned: run by the proof of deliveries.

    python -m tests.crash.announcing_worker URL JOURNAL COUNT SEED

A line is durable before the next commit begins, so that it is known afterwards what was acknowledged.
"""

import json
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from server.core.changes import PutFlag
from server.core.errors import StoreUnavailable
from server.store.engine import open_engine
from tests.store.definitions import flag, put

FLAGS = 5


def main() -> None:
    """Change flags so many times."""
    url, journal, count, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    engine = open_engine(url)
    with Path(journal).open("a", encoding="utf-8") as file:
        for number in range(int(count)):
            change = PutFlag(flag(f"f{chance.randrange(FLAGS)}", description=f"{seed}, {number}"))
            try:
                committed = put(engine, change, now=datetime.now(UTC))
            except StoreUnavailable:
                # The dispatchers' transactions follow on each other, and SQLite lets nobody queue.
                continue
            file.write(json.dumps({"revision": committed.revision}) + "\n")
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
