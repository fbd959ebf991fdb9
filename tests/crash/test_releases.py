"""Kill a process in the middle of what a release does: it is done whole, or not at all and once more.

And what proves it in the long form notices when it is not so.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from server.core.access import Action
from server.core.releases.progress import Act, State
from server.operations.releases.looking import agrees
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from server.store.engine import open_engine
from tests.crash.damaging import broken_by, proven
from tests.crash.databases import Databases, Place
from tests.crash.proofs import Results
from tests.crash.releases import APPROVER, Journal, draw_up, template, verify
from tests.operations.protected import EDITOR
from tests.operations.releasing import HOUR, Yard, open_yard
from tests.store.definitions import NOW

ROOT: Final = Path(__file__).resolve().parents[2]
CARRY_ON: Final = """
import sys
from datetime import datetime
from server.operations.releases.moving import Releases
from server.operations.writes import Writer
from server.store.engine import open_engine
Releases(Writer(open_engine(sys.argv[1]))).carry_on(datetime.fromisoformat(sys.argv[2]))
"""


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


def _carry_on(yard: Yard, failpoint: str, after: timedelta) -> int:
    """Look what is due in a process of its own; its exit code."""
    command = [sys.executable, "-c", CARRY_ON, str(yard.engine.url), (NOW + after).isoformat()]
    environment = {**os.environ, "FLAGSTAFF_FAILPOINT": failpoint}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=120).returncode


@pytest.mark.parametrize("failpoint", ["release.due", "commit.saved", "commit.audited", "release.carried_on"])
def test_killed_on_the_way(yard: Yard, failpoint: str) -> None:
    """Nothing of a step is there after a crash; whoever looks next takes it, once."""
    id = yard.started()
    before = yard.events(id)
    assert -signal.SIGKILL == _carry_on(yard, failpoint, HOUR)
    assert (1, before) == (yard.percent(), yard.events(id))
    for _ in range(2):
        yard.pass_time(HOUR)

    assert (10, State.RUNNING, len(before) + 1) == (yard.percent(), yard.state(id), len(yard.events(id)))
    assert agrees(yard.stored(id), yard.events(id))


def test_two_processes_look_at_the_same_time(yard: Yard) -> None:
    """One of them takes the step."""
    id = yard.started()
    command = [sys.executable, "-c", CARRY_ON, str(yard.engine.url), (NOW + HOUR).isoformat()]
    looking = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [0, 0, 0] == [each.wait(120) for each in looking]

    assert (10, 1) == (yard.percent(), yard.told().count("release.step_advanced"))
    assert agrees(yard.stored(id), yard.events(id))


BROKEN: Final = [
    ("UPDATE release_event SET request_id = '' WHERE request_id != ''", "what was acknowledged was done once"),
    ("UPDATE release_event SET request_id = 'same'", "nothing was done twice"),
    ("DELETE FROM outbox WHERE type = 'release.started'", "all is in audit trail and outbox alike"),
    ("UPDATE release SET state = 'running'", "each release has ended"),
    ("UPDATE release_event SET number = 99 WHERE number = 3", "the log has no gap"),
    ("UPDATE release_event SET revisions = '{}'", "each move of the log is a revision"),
    (
        """UPDATE revision SET document = replace(document, '"percent":50,', '"percent":20,')""",
        "each step's change was made once, in order",
    ),
    (
        """UPDATE revision SET document = replace(document, '"percent":0', '"percent":50')""",
        "a share shrinks by a roll-back only",
    ),
    ("UPDATE audit_entry SET action = 'x' WHERE action = 'release.rolled_back'", "a roll-back is told once"),
    ("UPDATE release_event SET at = '2000-01-01 00:00:00.000000' WHERE number > 2", "no step was early"),
    (
        """UPDATE release_event SET event = replace(event, '"act":"approve"', '"act":"advance"')""",
        "no gated step was skipped",
    ),
    ("UPDATE audit_entry SET cause = 'x' WHERE subject_kind = 'flag'", "each move is in the audit trail once"),
    ("DELETE FROM outbox WHERE type = 'flag.targeting_changed'", "each move was announced once"),
    ("UPDATE release_event SET told = '[]'", "the log, decided again, gives the release as it is"),
]


def test_releases_survive() -> None:
    """The quick form of the proof: who carries releases on is killed, and people are."""
    proven("releases", cycles=2)


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[tuple[Place, Journal]]:
    """A database as the proof's workers leave it, and what people were told."""
    place = template(Databases(tmp_path, None))
    journal = draw_up(place, random.Random(0))
    engine, begin = open_engine(place.url), datetime.now(UTC)
    releases = Releases(Writer(engine))
    for second in range(6):
        now = begin + timedelta(seconds=second)
        releases.carry_on(now)
        for id in journal.releases:
            goes_back = id in journal.to_roll_back
            act = {0: Act.START, 3: Act.ROLL_BACK if goes_back else Act.APPROVE}.get(second)
            if act is not None:
                by = APPROVER if act is Act.APPROVE else EDITOR
                write = Write(by, Action.EDIT, now, request_id=f"{id}-{act}")
                releases.command(write, project="shop", id=id, act=act)
                journal.acknowledged[f"{id}-{act}"] += 1
    engine.dispose()
    yield place, journal


def test_a_sound_database_is_sound(sound: tuple[Place, Journal]) -> None:
    """The proof does not cry without need."""
    results = Results()
    verify(*sound, results, where="here")

    assert results.hold, results.tallies


@pytest.mark.parametrize(("damage", "invariant"), BROKEN)
def test_the_proof_notices(sound: tuple[Place, Journal], damage: str, invariant: str) -> None:
    """Each invariant can break; what breaks it is seen."""
    place, journal = sound

    assert invariant in broken_by(place, damage, lambda results: verify(place, journal, results, where="here"))
