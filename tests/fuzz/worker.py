"""Run one target in a process of its own: by atheris where it is installed, else by plain mutations of the corpus.

    python -m tests.fuzz.worker rules --executions 10000 --crashes /tmp/crashes
    python -m tests.fuzz.worker rules --replay /tmp/crashes/crash-rules

The input at work is on disk before it runs, so that it is known also when the process dies.
"""

import argparse
import importlib.util
import itertools
import os
import random
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

# Nothing of the server's own here: what is imported before atheris looks on is not instrumented.
from tests.fuzz import inputs, mutations

HANG_S: Final = 20
MEMORY_BYTES_MAX: Final = 4 * 2**30


def main() -> None:
    """Run what the command line says; the exit code is 0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.worker", description=__doc__)
    parser.add_argument("target", choices=inputs.TARGETS)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crashes", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--replay", type=Path, help="run this one input")
    options = parser.parse_args()
    if options.replay:
        inputs.target(options.target)(options.replay.read_bytes())
    elif options.plain or importlib.util.find_spec("atheris") is None:
        test_one = inputs.target(options.target)
        mutate(options.target, test_one, executions=options.executions, seed=options.seed, crashes=options.crashes)
    else:
        _fuzz(options.target, options.executions, seed=options.seed, crashes=options.crashes)


def _fuzz(name: str, executions: int, *, seed: int, crashes: Path) -> None:
    import atheris

    os.environ[inputs.INSTRUMENTED] = "1"
    with atheris.instrument_imports(include=["server.core", "server.rpc", "server.web"]):
        test_one = inputs.target(name)
    # What atheris finds worth keeping; it ends the process by itself, so nothing can be tidied up afterwards here.
    found = crashes / "found"
    found.mkdir(exist_ok=True)
    arguments = [str(found), str(inputs.CORPUS / name), f"-runs={executions}", f"-seed={seed}", f"-timeout={HANG_S}"]
    arguments += [f"-rss_limit_mb={MEMORY_BYTES_MAX >> 20}", f"-artifact_prefix={crashes}/"]
    arguments += [f"-max_len={mutations.LENGTH_MAX}", "-verbosity=0", "-print_final_stats=0"]
    atheris.Setup([sys.argv[0], *arguments], test_one)
    atheris.Fuzz()


def mutate(name: str, test_one: inputs.TestOne, *, executions: int, seed: int, crashes: Path) -> None:
    """Run mutations of a target's corpus. When the process dies, the input that killed it is in `crashes`."""
    made = mutations.mutants([path.read_bytes() for path in inputs.files(name)], rng=random.Random(seed))
    # A bomb ends in a MemoryError here and not in a machine without memory; a hang ends in SIGALRM.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    current = crashes / f"crash-{name}"
    with current.open("wb", buffering=0) as file:
        for data in itertools.islice(made, executions):
            file.seek(0)
            file.truncate()
            file.write(data)
            signal.alarm(HANG_S)
            test_one(data)
    signal.alarm(0)
    current.unlink()


if __name__ == "__main__":
    main()
