"""Each due change is made exactly once, whatever becomes of who makes it; and the proof of it notices when not."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.operations.schedules.executing import Executing
from server.operations.writes import Writer
from server.store.engine import open_engine
from tests.crash.damaging import broken_by, proven
from tests.crash.databases import Databases, Place
from tests.crash.proofs import Results
from tests.crash.schedules import Due, _template, schedule, verify

ROOT = Path(__file__).parents[2]
BROKEN = [
    ("DELETE FROM schedule_step WHERE instant IS NOT NULL", "each instant was executed once"),
    ("UPDATE schedule_step SET happening = 'skipped' WHERE instant IS NOT NULL", "each instant was executed once"),
    ("UPDATE schedule_step SET at = datetime(instant, '-1 second') WHERE instant IS NOT NULL", "none was early"),
    ("UPDATE audit_entry SET cause = 'x' WHERE subject_kind = 'flag'", "each change was made once"),
    ("UPDATE audit_entry SET action = 'x' WHERE action = 'schedule.executed'", "each is in the audit trail once"),
    ("DELETE FROM outbox WHERE type = 'schedule.executed'", "each was announced once"),
    ("UPDATE schedule SET state = 'pending'", "nothing waits any more"),
    ("DELETE FROM outbox WHERE type IN ('flag.enabled', 'flag.disabled')", "each change was announced once"),
    ("DELETE FROM revision WHERE revision > 2", "each change is a revision, in the order of the instants"),
    (
        """UPDATE flag_config SET document = replace(document, '"enabled":false', '"enabled":true')""",
        "the flags are as the schedules say",
    ),
]


def test_schedules_survive() -> None:
    """The quick form of the proof: the main ways of hurting once, on the two kinds of database in turn."""
    proven("schedules", cycles=5)


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[tuple[Place, list[Due]]]:
    """A database as the proof's workers leave it, and what was due."""
    place = _template(Databases(tmp_path, None))
    due = schedule(place, random.Random(0), count=3, lead_s=0, spread_s=0)
    engine = open_engine(place.url)
    Executing(Writer(engine)).carry_on(datetime.now(UTC) + timedelta(minutes=1))
    engine.dispose()
    yield place, due


def test_a_sound_database_is_sound(sound: tuple[Place, list[Due]]) -> None:
    """The proof does not cry without need."""
    results = Results()
    verify(*sound, results, where="here")

    assert results.hold


@pytest.mark.parametrize(("damage", "invariant"), BROKEN)
def test_the_proof_notices(sound: tuple[Place, list[Due]], damage: str, invariant: str) -> None:
    """Each invariant can break; what breaks it is seen."""
    place, due = sound

    assert invariant in broken_by(place, damage, lambda results: verify(place, due, results, where="here"))
