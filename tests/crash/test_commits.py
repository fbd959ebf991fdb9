"""A crash never loses, halves or tangles a commit; and the proof of it notices when one does."""

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from server.core.changes import Change, PutFlag, PutSegment
from tests.crash.commits import Run, verify
from tests.crash.databases import Databases, Place
from tests.crash.proofs import Effort, Results
from tests.postgres import required_url
from tests.store.definitions import flag, new_shop, put, segment

ROOT = Path(__file__).parents[2]


def test_commits_survive_crashes() -> None:
    """The quick form of the proof: every failpoint once, and a few random instants."""
    required_url()
    command = [sys.executable, "-m", "scripts._prove", "commits", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "every invariant held" in done.stdout
    assert "24 cycles" in done.stdout, "twelve on each kind of database"


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        ("DELETE FROM outbox WHERE sequence = 5", "each revision has its announcements"),
        ("DELETE FROM outbox WHERE sequence = 5", "announcements have no gap"),
        ("DELETE FROM audit_entry WHERE sequence = 5", "each revision has its audit entries"),
        ("DELETE FROM audit_entry WHERE sequence = 3", "the audit chain holds"),
        ("UPDATE audit_entry SET actor = 'eve'", "the audit chain holds"),
        ("UPDATE environment SET revision = 9", "revisions have no gap"),
        ("DELETE FROM flag_config", "the state is what the revisions say"),
        ("UPDATE flag SET document = replace(document, 'true', 'false')", "the state is what the revisions say"),
        ("DELETE FROM reference", "the references are those of the state"),
        ("DELETE FROM segment", "every flag set is sound"),
        (
            "INSERT INTO flag_config (project, environment, key, document) VALUES ('shop', 'gone', 'x', '{}')",
            "the database finds nothing wrong",
        ),
    ],
)
def test_the_proof_notices(tmp_path: Path, damage: str, invariant: str) -> None:
    """Each invariant can break; what breaks it is seen."""
    run, path = sound_database(tmp_path)
    with sqlite3.connect(make_url(path.url).database or "") as connection:
        for table in ("audit_entry", "revision"):
            connection.execute(f"DROP TRIGGER {table}_refuses_update")
            connection.execute(f"DROP TRIGGER {table}_refuses_delete")
        connection.execute(damage)
    connection.close()
    verify(run, path, where="here")

    assert invariant in broken(run.results)


def test_the_proof_notices_a_lost_commit(tmp_path: Path) -> None:
    """What was acknowledged and is not there is seen."""
    run, path = sound_database(tmp_path)
    run.acknowledged[path].append({"revisions": {"production": 7}, "cause": "w-1"})
    verify(run, path, where="here")

    assert {"what was acknowledged is there"} == broken(run.results)


def test_the_proof_notices_commits_of_nobody(tmp_path: Path) -> None:
    """A writer has one commit under way, not two."""
    run, path = sound_database(tmp_path)
    run.acknowledged[path].clear()
    verify(run, path, where="here")

    assert {"nothing else is there but what was under way"} == broken(run.results)


def test_a_sound_database_is_sound(tmp_path: Path) -> None:
    """The proof does not cry without need."""
    run, path = sound_database(tmp_path)
    verify(run, path, where="here")

    assert set() == broken(run.results)
    assert run.results.hold


def sound_database(directory: Path) -> tuple[Run, Place]:
    """A database as the proof's writers leave it, and what they were told."""
    engine = new_shop(directory)
    path = Place(str(engine.url))
    run = Run(Effort(1, 1, 0, str(directory)), random.Random(0), Results(), path, Databases(directory, None), [])
    run.acknowledged[path], run.seen[path] = [], set()
    rule = {"condition": {"$ref": "beta"}, "serve": "on"}
    changes: list[Change] = [
        PutSegment(segment("beta", True)),
        PutFlag(flag(rules=[rule])),
        *(PutFlag(flag(key)) for key in "bcd"),
    ]
    for number, change in enumerate(changes):
        committed = put(engine, change, cause=f"w-{number}")
        run.acknowledged[path].append({"revisions": {"production": committed.revision}, "cause": f"w-{number}"})
    engine.dispose()
    return run, path


def broken(results: Results) -> set[str]:
    """Names of the invariants that broke."""
    return {invariant for invariant, tally in results.tallies.items() if tally.broken}
