"""Run a proof's quick form, and damage a database to see that a proof notices."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from tests.crash.databases import Place
from tests.crash.proofs import Results
from tests.postgres import required_url

ROOT: Final = Path(__file__).parents[2]


def proven(name: str, *, cycles: int) -> None:
    """Run a proof for some cycles, on the two kinds of database in turn, and expect that it holds."""
    required_url()
    command = [sys.executable, "-m", "scripts._prove", name, "--quick", "--cycles", str(cycles)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "every invariant held" in done.stdout


def broken_by(place: Place, damage: str, verify: Callable[[Results], None]) -> set[str]:
    """The invariants that a proof finds broken after a statement that changes something behind the product's back."""
    connection = sqlite3.connect(make_url(place.url).database or "")
    with connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            if "_refuses_" in name:
                connection.execute(f"DROP TRIGGER {name}")
        changed = connection.execute(damage).rowcount
    connection.close()
    assert changed > 0, damage
    results = Results()
    verify(results)
    return {name for name, tally in results.tallies.items() if tally.broken}
