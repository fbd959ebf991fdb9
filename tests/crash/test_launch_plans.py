"""What launch plans are to do is done once, whoever dies over it; and the proof of it notices when not."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server.operations.launch_plans.running import Running
from server.operations.writes import Writer
from server.store.engine import open_engine
from tests.crash.damaging import broken_by, proven
from tests.crash.databases import Databases, Place
from tests.crash.launch_plans import LATER_S, Launch, plan, template, verify
from tests.crash.proofs import Results

BROKEN = [
    ("DELETE FROM launch_plan_step WHERE items LIKE '%end%'", "each item was done once, in order"),
    ("UPDATE launch_plan SET state = 'running'", "each plan is complete"),
    ("DELETE FROM revision WHERE key LIKE 'b%' AND revision > 1", "each change is a revision, once and in order"),
    (
        "UPDATE revision SET revision = revision + 100 WHERE key LIKE 'b%' AND revision > 1",
        "an instant is one revision",
    ),
    ("UPDATE audit_entry SET cause = 'x' WHERE cause LIKE 'plan:%'", "each change is in the audit trail once"),
    ("DELETE FROM outbox WHERE type = 'plan.executed'", "each instant was announced once"),
    ("DELETE FROM outbox WHERE type IN ('flag.enabled', 'flag.disabled')", "each change was announced once"),
    ("UPDATE launch_plan_step SET at = '2000-01-01 00:00:00.000000'", "none was early"),
]


def test_launch_plans_survive() -> None:
    """The quick form of the proof: one is killed in the open transaction, and several at random."""
    proven("launch-plans", cycles=2)


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[tuple[Place, list[Launch]]]:
    """A database as the proof's workers leave it, and the plans that were made."""
    place = template(Databases(tmp_path, None))
    launches = plan(place, lead_s=0.0)
    engine = open_engine(place.url)
    for later_s in (1.0, LATER_S + 1.0):
        assert [] == Running(Writer(engine)).carry_on(launches[-1].at + timedelta(seconds=later_s))
    engine.dispose()
    yield place, launches


def test_a_sound_database_is_sound(sound: tuple[Place, list[Launch]]) -> None:
    """The proof does not cry without need."""
    results = Results()
    verify(*sound, results, where="here")

    assert results.hold


@pytest.mark.parametrize(("damage", "invariant"), BROKEN)
def test_the_proof_notices(sound: tuple[Place, list[Launch]], damage: str, invariant: str) -> None:
    """Each invariant can break; what breaks it is seen."""
    place, launches = sound

    assert invariant in broken_by(place, damage, lambda results: verify(place, launches, results, where="here"))
