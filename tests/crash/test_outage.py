"""A database that is away, frozen or slow harms no evaluation and no stream; the proof of it notices when it does."""

import subprocess
import sys
from pathlib import Path

from tests.crash.outage import Written, check_writes
from tests.crash.proofs import Results
from tests.postgres import required_url

ROOT = Path(__file__).parents[2]


def test_outages_are_survived() -> None:
    """The quick form of the proof: stopped, frozen and slow for 24 s each."""
    required_url()
    command = [sys.executable, "-m", "scripts._prove", "outage", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "every invariant held" in done.stdout


def test_the_proof_notices_wrong_answers_to_writers() -> None:
    """No write at all, another code, no word of when to try again."""
    broken = []
    for ended in (
        [],
        [Written(0, 1, "UNKNOWN", retry=True, value="a", revision=0)],
        [Written(0, 1, "", retry=True, value="a", revision=2)],
        [Written(0, 1, "UNAVAILABLE", retry=False, value="a", revision=0)],
    ):
        results = Results()
        check_writes(results, "stopped", ended)
        broken.append([name for name, tally in results.tallies.items() if tally.broken])

    assert [
        ["writes are tried while it is away"],
        ["they fail with UNAVAILABLE"],
        ["they fail with UNAVAILABLE"],
        ["they are told when to try again"],
    ] == broken
