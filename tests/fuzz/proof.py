"""Prove that no bytes bring down a reader of bytes: every target runs for a while, each in its own process."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.crash.proofs import Effort, Results
from tests.fuzz import inputs

EXECUTIONS_PER_CYCLE: Final = 1_250
"""With 9 targets and 200 cycles, more than two million executions."""

SECONDS_PER_EXECUTION_MAX: Final = 0.1
TIMEOUT_S_MIN: Final = 120.0
OUTPUT_CHARS_SHOWN: Final = 1_500
INVARIANT: Final = "never a crash, a hang, or an exception that is no refusal"
ROOT: Final = Path(__file__).parents[2]


def prove(effort: Effort) -> Results:
    """Run every target. What broke one is kept in a folder that outlives the proof."""
    results = Results()
    executions = effort.cycles * EXECUTIONS_PER_CYCLE
    results.note("targets", len(inputs.TARGETS))
    results.note("executions each", executions)
    if importlib.util.find_spec("atheris") is None:
        results.note("targets without atheris, which is not installed: plain mutations only", len(inputs.TARGETS))
    for name in inputs.TARGETS:
        broke = _run(name, executions, seed=effort.seed)
        results.check(f"{name}: {INVARIANT}", not broke, broke)
    return results


def _run(name: str, executions: int, *, seed: int) -> str:
    """What broke; "" when nothing did."""
    crashes = Path(tempfile.mkdtemp(prefix=f"flagstaff-fuzz-{name}-"))
    command = [sys.executable, "-m", "tests.fuzz.worker", name, "--executions", str(executions)]
    command += ["--seed", str(seed), "--crashes", str(crashes)]
    timeout_s = TIMEOUT_S_MIN + executions * SECONDS_PER_EXECUTION_MAX
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=timeout_s)
        outcome, output = f"exit code {done.returncode}", done.stdout + done.stderr
    except subprocess.TimeoutExpired as expired:
        outcome, output = f"no end within {timeout_s:.0f} s", expired.stderr or b""
    else:
        if done.returncode == 0:
            shutil.rmtree(crashes)
            return ""
    kept = ", ".join(f"{path} {path.read_bytes()[:200]!r}" for path in sorted(crashes.glob("*-*"))) or "nothing"
    text = output.decode("utf-8", "replace")
    # Atheris prints the exception, then pages about the input.
    uncaught = text.find("Uncaught Python exception")
    words = text[uncaught:][:OUTPUT_CHARS_SHOWN] if uncaught >= 0 else text[-OUTPUT_CHARS_SHOWN:]
    return f"{outcome}; replay by `python -m tests.fuzz.worker {name} --replay FILE`: {kept}\n{words}"
