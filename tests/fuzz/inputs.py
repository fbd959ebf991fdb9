"""Find the targets, and the inputs that each of them begins from."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

TestOne: TypeAlias = Callable[[bytes], None]

INSTRUMENTED: Final = "FLAGSTAFF_FUZZ_INSTRUMENTED"
"""Set where coverage is recorded, which makes code many times slower."""

FOLDER: Final = Path(__file__).parent
CORPUS: Final = FOLDER / "corpus"
TARGETS: Final = tuple(sorted(path.stem for path in (FOLDER / "targets").glob("*.py")))


def target(name: str) -> TestOne:
    """A target's function. It returns when all is well and raises when an invariant broke."""
    test_one: TestOne = importlib.import_module(f"tests.fuzz.targets.{name}").test_one
    return test_one


def files(name: str) -> list[Path]:
    """The inputs of a target's corpus."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
