"""Find the conformance data that others wrote, and lay its flag files out as flagd would serve them."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
VARIABLE: Final = "FLAGSTAFF_CONFORMANCE"
TESTBED: Final = Path(os.environ.get(VARIABLE) or ROOT.parent / "shared" / "conformance") / "flagd-testbed"
PRESENT: Final = (TESTBED / "gherkin").is_dir()
ABSENT: Final = f"flagd-testbed is not at {TESTBED}; name the folder that holds it in {VARIABLE}"

EVALUATOR: Final = TESTBED / "evaluator" / "gherkin"
PROVIDER: Final = TESTBED / "gherkin"

ALL_SOURCE: Final = "flags/allFlags.json"
SELECTOR_SOURCE: Final = "rawflags/selector-flags.json"
COMBINED_SOURCE: Final = "rawflags/selector-flag-combined-metadata.json"


def evaluator_features() -> list[str]:
    """The features of the evaluator suite."""
    return [str(path) for path in sorted(EVALUATOR.glob("*.feature"))]


def provider_features(*names: str) -> list[str]:
    """Features of the provider suite, by name."""
    return [str(PROVIDER / f"{name}.feature") for name in names]


def evaluator_flags() -> dict[str, Any]:
    """The one flag file of the evaluator suite."""
    return read(TESTBED / "evaluator" / "flags" / "testkit-flags.json")


def all_flags() -> dict[str, Any]:
    """What flagd-testbed makes of its flag files: all but the selector ones, merged."""
    merged: dict[str, Any] = {"flags": {}, "$evaluators": {}}
    for path in sorted((TESTBED / "flags").glob("*.json")):
        if path.name.startswith("selector-"):
            continue
        content = read(path)
        for part, entries in merged.items():
            entries.update(content.get(part, {}))
    return merged


def selector_flags() -> dict[str, Any]:
    """The flag set that only a selector reaches."""
    return read(TESTBED / "flags" / "selector-flags.json")


def combined_flags() -> dict[str, Any]:
    """The flag set whose own metadata lies under its flags' metadata."""
    return read(TESTBED / "flags" / "selector-flag-combined-metadata.json")


def tags() -> set[str]:
    """Every tag in the features; pytest wants them registered."""
    lines = (line for folder in (EVALUATOR, PROVIDER) for path in folder.glob("*.feature") for line in _lines(path))
    return {tag for line in lines if line.startswith("@") for tag in re.findall(r"@(\S+)", line)}


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


def read(path: Path) -> dict[str, Any]:
    """Read one of the testbed's flag files."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
