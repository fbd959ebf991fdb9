"""Kill a process in the middle of what a release does by itself: it is done whole, or not at all and once more."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from server.core.releases.progress import State
from server.operations.releases.looking import agrees
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
