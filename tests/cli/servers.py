"""Run `flagstaff serve` as a process of its own."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 60.0
FREE_PORTS: Final = ("--grpc-port=0", "--sync-port=0", "--http-port=0", "--drain-delay=0")

Start: TypeAlias = Callable[..., subprocess.Popen[str]]
"""(*options) -> the process, over the same database as `run`."""


def serving(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line that says where it serves."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    told: dict[str, Any] = json.loads(line)
    return told


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Ask it to stop: exit code and what else it wrote."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err
