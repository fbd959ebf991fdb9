"""`flagstaff flag stale ...` against a server process."""

from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, Ran, Run
from tests.cli.servers import Start, serving


@pytest.fixture
def stale(run: Run, start: Start, tmp_path: Path) -> Run:
    """The commands, with a server over the sample shop."""
    assert 0 == run("import", SAMPLES).code
    told = serving(start("--json"))

    def call(*arguments: str) -> Ran:
        return run("flag", "stale", *arguments, FLAGSTAFF_SERVER=f"127.0.0.1:{told['grpc_port']}")

    return call


def test_stale_flags_are_looked_at_and_talked_about(stale: Run) -> None:
    """From the mark to the end of it."""
    marked = stale("mark", "new-checkout", "--reason", "Launched in May")
    listed = stale("list", "--state", "stale")
    shown = stale("show", "new-checkout")
    snoozed = stale("snooze", "new-checkout", "--days", "30", "--json")
    cleared = stale("clear", "new-checkout")
    permanent = stale("permanent", "new-checkout")
    held = stale("show", "new-checkout")
    empty = stale("list")

    assert "flag new-checkout is stale\n" == marked.out
    assert ["new-checkout", "stale", "marked", "0", "d"] == listed.out.splitlines()[2].split()[:5]
    assert "new-checkout: stale\n  somebody said so\n" in shown.out
    assert "said by open: Launched in May" in shown.out
    assert "snoozed" == snoozed.json["flag"]["state"]
    assert "flag new-checkout is looked at like any other\n" == cleared.out
    assert permanent.out.startswith("flag new-checkout is permanent\n")
    assert "it is not looked at: it is permanent" in held.out
    assert empty.out.endswith("\n0 flags in default\n")


def test_terms_are_shown_and_set(stale: Run) -> None:
    """By their kinds and days."""
    assert "a temporary release flag is to live 40 days\n" in stale("terms").out
    assert "the terms are set\n" == stale("terms", "--lifetime", "release=90", "--grace-days", "0").out
    assert "release flag is to live 90 days\npast that" in stale("terms").out
    assert (2, True) == (
        (wrong := stale("terms", "--lifetime", "release=soon")).code,
        "--lifetime release=soon is not KIND=DAYS" in " ".join(wrong.err.split()),
    )
    assert 2 == stale("snooze", "new-checkout").code
