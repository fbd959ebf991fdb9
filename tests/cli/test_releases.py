"""`flagstaff release ...` against a server process, whose own clock moves the releases."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from tests.cli.conftest import Ran, Run, Write
from tests.cli.servers import Start, serving, stopped

FLAGS: Final = {
    "flags": {
        key: {
            "variants": {"on": True, "off": False},
            "default": "off",
            "rules": [{"id": "beta", "serve": "on", "share": {"percent": 0}}],
        }
        for key in ("banner", "search", "ranking")
    }
}
Told: TypeAlias = Callable[..., Ran]


@pytest.fixture
def release(run: Run, start: Start, write: Write) -> Iterator[Told]:
    """Runs `flagstaff release ...` against one server."""
    assert 0 == run("import", write("flags.json", FLAGS)).code
    process = start("--json")
    address = f"127.0.0.1:{serving(process)['grpc_port']}"
    yield lambda *arguments, **more: run("release", *arguments, FLAGSTAFF_SERVER=address, **more)
    stopped(process)


def _id(ran: Ran) -> str:
    assert 0 == ran.code, ran.err
    return next(word for word in ran.out.split() if word.startswith("rel_"))


def test_from_one_to_a_hundred(release: Told) -> None:
    """It is watched to its end, a line for each thing that happens; the log agrees with what was decided."""
    id = _id(release("create", "banner", "beta", "--shares", "1%,10%,100%", "--every", "0.4s", "--start"))
    watched = release("status", id, "--watch")
    log = release("log", id)
    listed = release("list", "--state", "completed", "--flag", "banner", "--json")

    assert 0 == watched.code, watched.err
    happened = [line.split("  ")[1].split(",")[0] for line in watched.out.splitlines()]
    assert ["created", "started 0 -> 1", "advanced 1 -> 2", "advanced 2 -> 3", "completed"] == happened
    assert "put in again, the log gives the same decisions" in log.out
    assert "holds  " in log.out
    assert [id] == [each["id"] for each in json.loads(listed.out)["releases"]]


def test_people_move_it(release: Told) -> None:
    """Each command says where it is then; what was not completed ends a watch with exit code 1."""
    id = _id(release("create", "banner", "beta", "--every", "1d", "--start", "--lock", "--name", "Banner"))
    said = [release(*command).out.splitlines()[0] for command in (("pause", id), ("resume", id), ("jump", id, "3"))]
    assert [
        f"release {id} is paused, at step 1 of 7",
        f"release {id} is running, at step 1 of 7",
        f"release {id} is running, at step 3 of 7",
    ] == said
    status = release("status", id)
    assert "> 3. 5 %" in status.out
    assert " s of 86400 s have passed" in status.out
    back = release("roll-back", id, "--reason", "Errors")
    assert "share of rule beta 5 % -> 0 %" in back.out
    assert 1 == release("status", id, "--watch").code
    refused = release("advance", id)
    assert (1, True) == (refused.code, "rolled-back cannot be advanced; restart it" in refused.err)


def test_canary_blue_green_templates_and_files(release: Told, tmp_path: Path) -> None:
    """Every way to draw one up."""
    canary = release("canary", "banner", "--treatment", "on", "--baseline", "off", "--guard", "errors", "--start")
    assert "1. 1 % beside 1 %" in canary.out
    both = release("blue-green", "search=on", "ranking=on", "--audience", '{"==": [{"var": "staff"}, true]}', "--start")
    switched = release("advance", _id(both))
    assert "flag search: default off -> on" in switched.out
    assert "flag ranking: default off -> on" in switched.out
    kept = release("template", "put", "careful", "--shares", "1%,100%", "--every", "1d", "--approvals", "1")
    assert "release template careful kept" in kept.out
    assert "careful   1 %, 100 %" in release("template", "list").out
    assert 0 == release("create", "banner", "beta", "--template", "careful").code
    assert 0 == release("template", "delete", "careful").code
    file = tmp_path / "plan.json"
    patch = {"environment": "production", "flagKey": "banner", "enabled": False}
    file.write_text(json.dumps({"name": "Off", "steps": [{"name": "off", "patches": [patch]}]}))
    assert "is created" in release("create", "--file", str(file)).out


def test_somebody_outside_is_asked(release: Told) -> None:
    """What silence and a no mean is as the options say, and a no that rolls back does so at once."""
    options = ("--ask", "ci", "--ask-timeout", "10m", "--on-silence", "go", "--on-no-go", "roll-back")
    id = _id(release("create", "banner", "beta", "--shares", "5%,100%", "--every", "0s", *options, "--start"))
    externals = json.loads(release("status", id, "--json").out)["plan"]["steps"][0]["gates"]["externals"]
    answered = release("answer", id, "ci", "--no-go", "--comment", "red")

    asked = {"name": "ci", "timeout": "600s", "onTimeout": "go", "onNoGo": "roll-back"}
    assert [asked] == externals
    assert "is rolled-back" in answered.out, answered.err
    assert "says no-go: red" in release("log", id).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "banner"), "name the flag and its rule"),
        (("create", "banner", "beta", "--every", "soon"), "'soon' is not a time such as 90s"),
        (("create", "banner", "beta", "--shares", "none"), "'none' is not a percentage"),
        (("create", "banner", "beta", "--starts-at", "tomorrow"), "--starts-at 'tomorrow' is not an instant"),
    ],
)
def test_what_cannot_be_meant(run: Run, arguments: Any, words: str) -> None:
    """It is refused before anything is asked of a server."""
    ran = run("release", *arguments, FLAGSTAFF_SERVER="127.0.0.1:1")

    assert (2, True) == (ran.code, words in ran.err.replace("\n", " ")), ran.err
