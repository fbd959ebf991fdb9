"""Run the server so that it tells which asyncio tasks it has: on SIGUSR1 it writes them to a file."""

import asyncio
import json
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from server.cli.main import main


def tasks_path(pid: int) -> Path:
    """Where the server of a process id writes."""
    return Path(tempfile.gettempdir()) / f"flagstaff-tasks-{pid}.json"


def tell(*_: Any) -> None:
    """Count the tasks by their coroutine; the file is whole or absent."""
    path = tasks_path(os.getpid())
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "unnamed") for task in asyncio.all_tasks())
    part = path.with_suffix(".part")
    part.write_text(json.dumps(tasks), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    main()
