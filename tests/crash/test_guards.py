"""A breach leads to one roll-back, and each observation counts once; and the proof of it notices when not."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.core.metrics.batches import Batch, Series
from server.operations.guards.judging import Judging
from server.operations.metrics import Observing
from server.operations.writes import Writer
from server.store.engine import open_engine
from tests.crash.damaging import broken_by, proven
from tests.crash.databases import Databases, Place
from tests.crash.guards import Journal, template, verify, watch
from tests.crash.proofs import Results

BROKEN = [
    ("UPDATE metric_sum SET count = count + 1", "each observation is counted once"),
    ("UPDATE metric_sum SET mean = 2 * mean", "each observation is counted once"),
    ("DELETE FROM revision WHERE revision > 2", "the flag was switched off once"),
    (
        "INSERT INTO revision SELECT project, environment, 9, kind, key, document, at FROM revision WHERE revision = 3",
        "the flag was switched off once",
    ),
    ("UPDATE audit_entry SET actor = 'x' WHERE actor = 'guard:safe'", "the switch has one cause"),
    ("DELETE FROM outbox WHERE type = 'guard.rolled_back'", "one roll-back is told"),
    ("UPDATE audit_entry SET action = 'x' WHERE action = 'guard.rolled_back'", "one roll-back is told"),
    ("UPDATE guard_evaluation SET outcome = 'rolled_back'", "one roll-back is told"),
]


def test_guards_survive() -> None:
    """The quick form of the proof: one is killed while it judges, and one after it recorded."""
    proven("guards", cycles=2)


@dataclass
class SetClock:
    """An instant that the test moves."""

    now: datetime

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[tuple[Place, Journal]]:
    """A database as the proof's workers leave it, and what was recorded."""
    place = template(Databases(tmp_path, None))
    watch(place)
    engine, clock, journal = open_engine(place.url), SetClock(datetime.now(UTC)), Journal()
    judging = Judging(engine, Writer(engine), clock)
    observing = Observing(engine, clock, judging.observed)
    for sequence, errors in enumerate((0, 90, 90, 90), start=1):
        series = Series("errors", [1.0] * errors + [0.0] * (100 - errors), [1.0] * 100, "f0", "on")
        observing.take([Batch("shop", "production", "producer", sequence, [series])])
        journal.sent[sequence] = errors, 100
        clock.now += timedelta(seconds=1)
        judging.carry_on(clock.now)
    engine.dispose()
    yield place, journal


def test_a_sound_database_is_sound(sound: tuple[Place, Journal]) -> None:
    """The proof does not cry without need."""
    results = Results()
    verify(*sound, results, where="here")

    assert results.hold


@pytest.mark.parametrize(("damage", "invariant"), BROKEN)
def test_the_proof_notices(sound: tuple[Place, Journal], damage: str, invariant: str) -> None:
    """Each invariant can break; what breaks it is seen."""
    place, journal = sound

    assert invariant in broken_by(place, damage, lambda results: verify(place, journal, results, where="here"))
