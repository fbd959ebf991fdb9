"""Backups under load hold one instant; and the proof of it notices when one does not."""

import subprocess
import sys
from pathlib import Path

from server.core.changes import PutFlag
from server.operations.backups import back_up
from tests.crash.backups import check
from tests.crash.proofs import Results
from tests.store.definitions import NOW, behind_our_back, flag, new_shop, put

ROOT = Path(__file__).parents[2]


def test_backups_under_load_are_whole() -> None:
    """The quick form of the proof."""
    command = [sys.executable, "-m", "scripts._prove", "backups", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "every invariant held" in done.stdout


def test_the_proof_notices(tmp_path: Path) -> None:
    """A flag that is not what its revision says is seen."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()))
    with behind_our_back(engine) as connection:
        connection.execute("UPDATE flag_config SET document = replace(document, 'off', 'on')")
    back_up(engine, tmp_path / "a.backup", now=NOW)
    results = Results()
    check(results, engine, tmp_path / "a.backup", tmp_path / "a.db", where="here")
    engine.dispose()

    assert ["flags are those of one revision"] == [name for name, tally in results.tallies.items() if tally.broken]
