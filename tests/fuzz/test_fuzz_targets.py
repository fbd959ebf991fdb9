"""What fuzzing found once stays mended, and a short run with a fixed seed finds nothing new."""

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz import inputs, mutations

SECONDS_A_TARGET = 0.7
EXECUTIONS_MAX = 3_000
INPUTS = [(name, path) for name in inputs.TARGETS for path in inputs.files(name)]


@pytest.mark.parametrize(("name", "path"), [pytest.param(*each, id=f"{each[0]}-{each[1].name}") for each in INPUTS])
def test_corpus(name: str, path: Path) -> None:
    """Every input that is kept passes its target."""
    inputs.target(name)(path.read_bytes())


@pytest.mark.parametrize("name", inputs.TARGETS)
def test_mutations(name: str) -> None:
    """Mutations of the corpus, the same ones each time, pass too."""
    test_one = inputs.target(name)
    made = mutations.mutants([path.read_bytes() for path in inputs.files(name)], rng=random.Random(7))
    started = time.process_time()
    count = 0
    for data in itertools.islice(made, EXECUTIONS_MAX):
        test_one(data)
        count += 1
        if time.process_time() - started > SECONDS_A_TARGET:
            break

    assert count > 0


def test_a_death_is_seen(tmp_path: Path) -> None:
    """A worker that dies leaves the input behind, and its exit code says so."""
    code = (
        "import os, pathlib, sys\n"
        "from tests.fuzz import worker\n"
        "die = lambda data: os.kill(os.getpid(), 11)\n"
        "worker.mutate('selectors', die, executions=5, seed=1, crashes=pathlib.Path(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=inputs.FOLDER.parents[1], check=False, timeout=60
    )

    assert -11 == done.returncode
    assert [tmp_path / "crash-selectors"] == list(tmp_path.iterdir())
