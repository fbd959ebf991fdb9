"""`flagstaff history ...` against a server: what happened, what was, and bringing it back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.conftest import Ran, Run
from tests.cli.servers import Start, serving, stopped

VIP: Final = {"condition": {"==": [{"var": "plan"}, "pro"]}}
STEPS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"rules": [{"id": "vip", "condition": {"$ref": "vip"}, "serve": "on"}]},
    {"enabled": False},
)


@pytest.fixture
def ask(run: Run, start: Start, tmp_path: Path) -> Iterator[Run]:
    """History commands against a server whose flag new-ui has three revisions."""
    for number, fields in enumerate(STEPS, start=1):
        flag = {"variants": {"on": True, "off": False}, "default": "off", **fields}
        path = tmp_path / "flags.json"
        path.write_text(json.dumps({"flags": {"new-ui": flag}, "segments": {"vip": VIP}}))
        assert 0 == run("import", path, "--reason", f"step {number}").code
    process = start("--json")
    server = f"--server=127.0.0.1:{serving(process)['grpc_port']}"

    def call(*arguments: str | Path, **options: Any) -> Ran:
        return run("history", *arguments, server, **options)

    yield call
    stopped(process)


def test_the_past_is_listed_and_shown(ask: Run) -> None:
    """In words, and as a document; also of a segment and of the environment."""
    listed = ask("list", "new-ui")
    newest = listed.out.splitlines()[2]

    assert "state on -> off" in newest
    assert "step 3" in newest
    assert "rule vip added at the end: if segment vip: on" in listed.out
    assert "3 of 3 changes in default/production" in listed.out
    assert ["segment.created"] == [each["action"] for each in ask("list", "segment/vip", "--json").json["revisions"]]
    assert "created" in ask("list", "environment").out
    assert "vip" == json.loads(ask("show", "flag/new-ui", "2").out)["rules"][0]["id"]


def test_a_flag_is_evaluated_as_of_a_moment(ask: Run) -> None:
    """With each step."""
    then = ask("evaluate", "new-ui", "--as-of", "2", "-k", "ann", "-c", '{"plan": "pro"}', "--explain")
    now = ask("evaluate", "new-ui", "-k", "ann")

    assert "2. rule vip: matched" in then.out
    assert "on = true (TARGETING_MATCH)\nfrom default/production, revision 2" in then.out
    assert "the caller's default (DISABLED)" in now.out


def test_two_moments_are_compared(ask: Run) -> None:
    """Which flag answers otherwise, and which change did it."""
    ran = ask("compare", "1", "2", "-k", "ann", "-c", '{"plan": "pro"}')

    assert "new-ui: off = false (STATIC) -> on = true (TARGETING_MATCH)" in ran.out
    assert "flag.updated new-ui: rule vip added at the end: if segment vip: on (step 2)" in ran.out
    assert "1 flag answers otherwise in revision 2 than in 1" in ran.out


def test_a_revision_is_brought_back(ask: Run) -> None:
    """After a dry run that changed nothing."""
    tried = ask("revert", "new-ui", "2", "--dry-run")
    done = ask("revert", "new-ui", "2", "--reason", "too soon")

    assert "  flag new-ui: state off -> on\n" in tried.out
    assert tried.out.endswith("production would be at revision 4\n")
    assert done.out.startswith("new-ui is what it was at revision 2\n")
    assert "too soon; revert:2" in ask("list", "new-ui", "--limit", "1").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "none"), "flag 'none' is not in 'default/production' and never was"),
        (("show", "new-ui", "yesterday"), "'yesterday' is no moment; write a revision (12)"),
        (("evaluate", "new-ui", "--as-of", "9"), "has revisions 1 to 3, asked for 9"),
    ],
)
def test_what_cannot_be_is_refused(ask: Run, arguments: tuple[str, ...], said: str) -> None:
    """With what helps."""
    ran = ask(*arguments)

    assert (1, True) == (ran.code, said in ran.err), ran.err
