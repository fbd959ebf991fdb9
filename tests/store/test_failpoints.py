"""A failpoint kills the process at its name, and nothing else does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REACH = "from server.store import failpoints; failpoints.reach('commit.saved'); print('alive')"


@pytest.mark.parametrize(
    ("armed", "status", "output"),
    [("commit.saved", -signal.SIGKILL, ""), ("commit.begin", 0, "alive\n"), ("", 0, "alive\n")],
)
def test_only_the_named_point_kills(armed: str, status: int, output: str) -> None:
    """The environment names the point."""
    done = run(armed)

    assert (status, output) == (done.returncode, done.stdout)


def test_a_misspelt_name_is_refused() -> None:
    """A proof must not pass because its point does not exist."""
    assert "expected one of: commit.begin" in run("commit.middle").stderr


def run(armed: str) -> subprocess.CompletedProcess[str]:
    """Reach commit.saved in a process of its own."""
    environment = {**os.environ, "FLAGSTAFF_FAILPOINT": armed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", REACH]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
