"""The demonstration, run as a reader would run it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 180.0


def test_the_demonstration_ends_well() -> None:
    """Every answer is what it should be, and nothing is left behind."""
    command = [sys.executable, str(ROOT / "scripts/_demo.py"), "--once"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)

    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert "Every answer was what it should be." == done.stdout.splitlines()[-1]
    assert "WRONG" not in done.stdout
