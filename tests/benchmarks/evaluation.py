"""Time compiled evaluation beside the official evaluators of Python and JavaScript, on the same flags and contexts."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.figures import HIGHER, Figure, Goal, Say, faster
from tests.benchmarks.processes import ROOT, environment
from tests.benchmarks.samples import FLAGD_FLAGS, contexts, flagd_file

ROUNDS: Final = 15
ROUND_S: Final = 0.02
"""Short, so that most rounds see no other process on their core."""

WARM_UP_S: Final = 0.5
NODE_PACKAGE: Final = "@openfeature/flagd-core@4"
PYTHON_GOAL: Final = Goal("ratio", HIGHER, 20)
NODE_GOAL: Final = Goal("ratio", HIGHER, 1)


def run(say: Say) -> list[Figure]:
    """Nanoseconds per evaluation with a ready context, in one thread. Each evaluator is a process of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(_Peer(_python("ours")))
        core = stack.enter_context(_Peer(_python("flagd_core")))
        command = _node(folder, say)
        node = stack.enter_context(_Peer(command)) if command else None
        _check_values(ours, core, node)
        figures: list[Figure] = []
        for key in FLAGD_FLAGS:
            say(f"{key}: {ROUNDS} rounds")
            figures += _compare(key, ours, core=core, node=node)
        return figures


class _Peer:
    """One evaluator's process."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "_Peer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the evaluator ended with {self._process.wait()} when asked {question}")
        return json.loads(line)


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"tests.benchmarks.peers.{module}"]


def _node(folder: Path, say: Say) -> list[str] | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        say("node and npm are not installed: the JavaScript evaluator is left out")
        return None
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run([*install, NODE_PACKAGE], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        say(f"npm could not install {NODE_PACKAGE}, which is left out: {done.stderr.strip()[-300:]}")
        return None
    path = folder / "flags.json"
    path.write_text(json.dumps({"flags": flagd_file(), "contexts": contexts()}), encoding="utf-8")
    return [node, str(ROOT / "tests" / "benchmarks" / "peers" / "flagd-core.mjs"), str(folder), str(path)]


def _check_values(ours: _Peer, core: _Peer, node: _Peer | None) -> None:
    """The same work is timed: all give the same values. The Python core knows version 3 of bucketing only."""
    for key in FLAGD_FLAGS:
        pairs = [(core.ask(case=key), ours.ask(case=f"{key}/v3"))]
        if node is not None:
            pairs.append((node.ask(case=key), ours.ask(case=key)))
        for theirs, mine in pairs:
            if theirs != mine:
                raise RuntimeError(f"the evaluators disagree about {key}; the comparison would say nothing")


def _compare(key: str, ours: _Peer, *, core: _Peer, node: _Peer | None) -> list[Figure]:
    subjects = {
        "compiled": (ours, key),
        "resolve": (ours, f"{key}/resolve"),
        "v3": (ours, f"{key}/v3"),
        "core": (core, key),
        **({"node": (node, key)} if node is not None else {}),
    }
    repeats = {name: _warm_up(peer, case) for name, (peer, case) in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name, (peer, case) in subjects.items():
            times[name].append(peer.ask(case=case, repeat=repeats[name]) / 1_000)
    python = "openfeature-flagd-core (Python)"
    figures = [
        # A hash is compared under the scheme that the other side uses.
        faster(f"{key}, compiled", times["v3"], than=python, theirs=times["core"], goal=PYTHON_GOAL),
        faster(f"{key}, through Snapshot.resolve", times["resolve"], than=python, theirs=times["core"]),
    ]
    if node is not None:
        script = "@openfeature/flagd-core (Node)"
        figures.append(faster(f"{key}, compiled", times["compiled"], than=script, theirs=times["node"], goal=NODE_GOAL))
    return figures


def _warm_up(peer: _Peer, case: str) -> int:
    """Run until compilers and caches have settled; gives how often to repeat in a round."""
    repeat, spent_s, each_s = 1, 0.0, 1.0
    while spent_s < WARM_UP_S:
        each_s = peer.ask(case=case, repeat=repeat) / 1e9 * 100
        spent_s += each_s * repeat
        repeat = max(1, int(ROUND_S / each_s))
    return max(1, int(ROUND_S / each_s))
