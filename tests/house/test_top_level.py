"""The top of the repository holds what it is meant to hold."""

import subprocess

import pytest

from tests.house.sources import ROOT

NAMES = {
    ".ci", ".gitignore", "LICENSE", "README.md", "protos", "pyproject.toml", "scripts", "server", "tests", "webhooks",
}  # fmt: skip


def test_top_level_is_fixed() -> None:
    """Whoever opens the repository sees the same few names; a new one needs a decision."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so what belongs to the repository is not known")

    assert [] == top_level_problems(listing.stdout.split("\0"))


def test_a_new_name_is_found() -> None:
    """Files and directories count alike."""
    tracked = [*(f"{name}/file" for name in NAMES), "Makefile", "docs/page.md", ""]

    assert ["Makefile is not meant to be here", "docs is not meant to be here"] == top_level_problems(tracked)


def test_a_missing_name_is_found() -> None:
    """Nothing of the fixed top level may go."""
    assert ["LICENSE is missing"] == top_level_problems([name for name in NAMES if name != "LICENSE"])


def top_level_problems(tracked: list[str]) -> list[str]:
    """What is too much or missing among the top-level names of these paths."""
    present = {path.partition("/")[0] for path in tracked if path}
    extra = [f"{name} is not meant to be here" for name in sorted(present - NAMES)]
    return extra + [f"{name} is missing" for name in sorted(NAMES - present)]
