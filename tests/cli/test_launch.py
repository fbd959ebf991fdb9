"""`flagstaff launch ...` against a server process, in compressed time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from icalendar import Calendar

from tests.cli.conftest import Ran, Run, Write
from tests.cli.servers import Start, serving

FLAGS: Final = {
    "flags": {key: {"variants": {"on": True, "off": False}, "default": "off"} for key in ("new-ui", "banner")}
}


@dataclass
class Desk:
    """A server with two flags in two environments, and tokens of those who work with it."""

    address: str
    tokens: dict[str, str]
    actors: dict[str, str]
    run: Run

    def __call__(self, *arguments: str, by: str = "editor", **more: Any) -> Ran:
        """Run a command as somebody."""
        return self.run(*arguments, FLAGSTAFF_SERVER=self.address, FLAGSTAFF_TOKEN=self.tokens[by], **more)

    def default(self, key: str, environment: str = "production") -> str:
        """Which variant everybody gets of a flag now."""
        ran = self.run("evaluate", key, "--environment", environment, "--json")
        assert 0 == ran.code, ran.err
        return str(ran.json["variant"])


@pytest.fixture
def desk(run: Run, start: Start, write: Write, tmp_path: Path) -> Iterator[Desk]:
    """One server process, ended with the test."""
    for environment in ("production", "staging"):
        assert 0 == run("import", write("flags.json", FLAGS), "--environment", environment).code
    tokens, actors = {}, {}
    database = f"--database-url=sqlite:///{tmp_path / 'flags.db'}"
    for name, role in {"editor": "edit", "approver": "approve", "operator": "operate"}.items():
        made = run("token", "create", name, "--role", role, "--json", database).json
        tokens[name], actors[name] = made["text"], f"token:{made['token']['id']}"
    told = serving(start("--json"))
    yield Desk(f"127.0.0.1:{told['grpc_port']}", tokens, actors, run)


def plan(desk: Desk, launch_at: str) -> dict[str, Any]:
    """A plan as people write it: both environments at once, and a banner half an hour later."""
    serve = [{"SetDefaultRule": {"environment": each, "key": "new-ui", "serve": {"variant": "on"}}} for each in
             ("staging", "production")]  # fmt: skip
    banner = {"SetDefaultRule": {"environment": "production", "key": "banner", "serve": {"variant": "on"}}}
    return {
        "name": "New UI",
        "owner": "ann",
        "timeZone": "Europe/Berlin",
        "launchAt": launch_at,
        "missed": "run",
        "remindBefore": "1h",
        "checks": [{"id": "legal", "text": "Legal agrees", "approvers": [desk.actors["approver"]]}],
        "items": [
            {"id": "live", "at": "T-0", "title": "Go live", "do": serve},
            {"id": "banner", "at": "T+30m", "do": [banner]},
        ],
    }


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    given_up_at = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < given_up_at
        time.sleep(0.1)


def test_a_launch(desk: Desk, write: Write) -> None:
    """Tried, made, agreed to, started; it happens by itself, is held by whoever may, and goes on when it is shifted."""
    file = write("plan.json", plan(desk, (datetime.now(UTC) + timedelta(hours=1)).isoformat()))
    tried = desk("launch", "create", file, "--dry-run")
    assert 0 == tried.code, tried.err
    assert "production: flag new-ui: default off -> on" in tried.out
    assert "0 launch plans" in desk("launch", "list").out
    made = desk("launch", "create", file, "--json")
    assert 0 == made.code, made.err
    id = made.json["launchPlan"]["id"]
    assert "check legal: Legal agrees: open" in desk("launch", "show", id).out
    assert 0 == desk("launch", "go", id, "legal", by="approver").code
    started = desk("launch", "start", id)
    assert f"launch plan {id} is scheduled" in started.out, started.err
    until(lambda: "due-soon live" in desk("launch", "show", id).out)
    # An hour less a little: T-0 comes within seconds, and the banner half an hour after it.
    assert 0 == desk("launch", "shift", id, "--by=-3590s").code
    until(lambda: desk.default("new-ui") == "on")
    assert "on" == desk.default("new-ui", "staging")
    assert "off" == desk.default("banner")
    assert 0 == desk("launch", "hold", id, "--reason", "Slow", by="operator").code
    assert "held (Slow)" in desk("launch", "show", id).out
    assert 0 == desk("launch", "shift", id, "--by=-1h").code
    assert 0 == desk("launch", "resume", id).code
    until(lambda: desk.default("banner") == "on")
    until(lambda: "completed" in desk("launch", "list").out)
    audit = desk("audit", "list", "--subject", "flag/new-ui", "--environment", "production", "--json").out

    assert f"plan:{id}" in audit
    assert "plan.executed" in desk("audit", "list", "--subject", f"launch-plan/{id}", "--json").out


def test_other_commands(desk: Desk, write: Write) -> None:
    """Changed, refused, left out, moved, ended; and everything is in people's calendars."""
    id = desk("launch", "create", write("plan.json", plan(desk, "2126-12-01T10:00")), "--json").json["launchPlan"]["id"]
    kept = plan(desk, "2126-12-02T10:00")
    del kept["items"][0]["do"]
    assert 0 == desk("launch", "update", id, write("kept.json", kept)).code
    assert 0 == desk("launch", "skip", id, "banner").code
    assert 0 == desk("launch", "shift", id, "--to", "2126-12-03T10:00").code
    shown = desk("launch", "show", id).out
    assert "T-0 is 2126-12-03 09:00 UTC, told in Europe/Berlin" in shown
    calendar = Calendar.from_ical(desk("launch", "calendar").out)
    assert ["New UI: Go live", "New UI: banner (skipped)"] == [
        str(each["SUMMARY"]) for each in calendar.walk("VEVENT")
    ][:2]
    no = desk("launch", "no-go", id, "legal", "--comment", "Not signed", by="approver")
    assert 0 == no.code, no.err
    assert 1 == desk("launch", "go", id, "legal").code
    assert 0 == desk("launch", "cancel", id).code
    assert 1 == desk("launch", "start", id).code
    starts = {**kept, "items": [{"id": "go", "at": "T-0", "start": "rel_none"}]}
    assert "release 'rel_none' is not in project" in desk("launch", "create", write("starts.json", starts)).err
    assert 2 == desk("launch", "shift", id).code


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"launchAt": "tomorrow"}, "/launchAt: 'tomorrow' is no time"),
        ({"launch": "x"}, "/launch: unknown"),
        ({"grace": "long"}, "/grace: 'long' is no length of time"),
        ({"timeZone": "Mars"}, "there is no time zone 'Mars'"),
        ({"items": "none"}, "/items: is not a list of objects"),
        ({"items": [{"id": "a", "at": "T-0", "do": [{"Explode": {}}]}]}, "/items/0/do/0/Explode: is no call"),
        ({"items": [{"id": "a", "when": "T-0"}]}, "/items/0/when: unknown"),
        ({"items": [{"id": "a", "at": "T-0", "do": [{"EnableFlags": {"flags": ["a"]}}]}]}, "flags"),
    ],
)
def test_files_that_are_refused(run: Run, write: Write, change: dict[str, Any], told: str) -> None:
    """Each says where it is wrong, before a server is asked."""
    document = {"name": "x", "timeZone": "UTC", "launchAt": "2126-01-01T00:00", "items": [], **change}
    ran = run("launch", "create", write("plan.json", document), "--server", "127.0.0.1:1")

    assert 1 == ran.code
    assert told in ran.err
