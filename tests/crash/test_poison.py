"""A bad definition is refused or kept to itself; and the proof of it notices when it is not."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from server.store.engine import reading
from server.store.environments import list_environments
from server.store.flagsets import load_documents
from tests.crash.mutants import FLAG, Mutant, bases_of, mutants
from tests.crash.past_the_door import LOADED, OTHER_SETS, SAME, PastTheDoor
from tests.crash.poisoned import (
    ENVIRONMENT,
    ENVIRONMENT_COLUMNS,
    FLAG_COLUMNS,
    PART_COLUMNS,
    PROJECT,
    SET,
    new_database,
    open_raw,
    signature,
)
from tests.crash.proofs import Results

ROOT = Path(__file__).parents[2]
CYCLES = "3"


def test_mutants_harm_nobody_else() -> None:
    """A short form of the proof, with the same mutants each time."""
    command = [sys.executable, "-m", "scripts._prove", "poison", "--cycles", CYCLES, "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "every invariant held" in done.stdout
    assert "150 mutants" in done.stdout


def test_mutants_are_of_every_operation() -> None:
    """And hardly ever the definition that they were made from."""
    made = [mutant for (mutant, _), _ in zip(mutants(bases_of(3), rng=random.Random(1)), range(400), strict=False)]

    assert len({mutant.text for mutant in made}) > 350
    assert {"blank", "null", "unsayable", "twice", "circle", "removed variant", "broken text"} <= {
        name for mutant in made for name in mutant.operation.split(" and ")
    }


def test_the_proof_notices_another_answer(tmp_path: Path) -> None:
    """What overwrites a good flag with one that answers otherwise is seen."""
    results = Results()
    past = PastTheDoor(tmp_path / "past.db", results, rng=random.Random(1))
    past.answers["payments"] = signature(past.good, ["banner"])["banner"]
    past.try_all([Mutant("none", FLAG, b'{"variants": {"on": true}, "default": "on"}')])
    past.close()

    assert results.tallies[SAME].broken
    assert not results.tallies[LOADED].broken


def test_the_proof_notices_a_follower_that_stands_still(tmp_path: Path) -> None:
    """What the follower does not come to serve is seen."""
    results = Results()
    past = PastTheDoor(tmp_path / "past.db", results, rng=random.Random(1))
    past.follower.stop()
    past.timeout_s = 0.05
    past.try_all([Mutant("none", FLAG, b"{}")])
    past.close()

    assert results.tallies[LOADED].broken
    assert results.tallies[OTHER_SETS].broken


@pytest.mark.parametrize(
    "damage",
    [
        "bucketing = 'v9'",
        "key = x'ff'",
        "key = '../../x'",
        "key = 'a' || char(0)",
        "project = ''",
        "revision = 'many'",
        "revision = -1",
        "source = x'00'",
    ],
)
def test_a_damaged_environment_is_left_out(tmp_path: Path, damage: str) -> None:
    """The others are listed, and it is named with the reason."""
    engine = new_database(tmp_path / "shop.db")
    raw = open_raw(tmp_path / "shop.db")
    raw.execute(
        f"INSERT INTO environment ({ENVIRONMENT_COLUMNS})"
        " SELECT 'bad', key, name, bucketing, critical, metadata_document, source, 1, '?'"
        " FROM environment"
    )
    raw.execute(f"UPDATE environment SET {damage} WHERE project = 'bad'")
    found: dict[str, str] = {}
    with reading(engine) as connection:
        sets = [each.environment.flag_set for each in list_environments(connection, damaged=found.__setitem__)]
    raw.close()
    engine.dispose()

    assert [SET] == sets
    assert 1 == len(found)


def test_a_key_of_bytes_takes_no_place(tmp_path: Path) -> None:
    """SQLite keeps 'payments' as text and as bytes apart, and so does what is read."""
    engine = new_database(tmp_path / "shop.db")
    raw = open_raw(tmp_path / "shop.db")
    raw.execute(
        f"INSERT INTO flag ({FLAG_COLUMNS}) SELECT project, CAST(key AS BLOB), type, kind, owner, '[]'"
        " FROM flag WHERE key = 'payments'"
    )
    raw.execute(
        f"INSERT INTO flag_config ({PART_COLUMNS}) SELECT project, environment, CAST(key AS BLOB), '[]'"
        " FROM flag_config WHERE key = 'payments'"
    )
    with reading(engine) as connection:
        flags = load_documents(connection, project=PROJECT, environment=ENVIRONMENT).flags
    raw.close()
    engine.dispose()

    assert flags["payments"] is not None
    assert flags["b'payments'"] is None
