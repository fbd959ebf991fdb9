"""`flagstaff schedule ...` against a server process, as somebody with a token."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.conftest import Ran, Run, Write
from tests.cli.servers import Start, serving

FLAGS: Final = {
    "flags": {
        key: {"variants": {"on": True, "off": False}, "default": "off", "enabled": False} for key in ("banner", "night")
    }
}


@dataclass
class Desk:
    """A server, and a token of an editor."""

    address: str
    token: str
    run: Run

    def __call__(self, *arguments: str, **more: Any) -> Ran:
        """Run a command of the group."""
        return self.run("schedule", *arguments, FLAGSTAFF_SERVER=self.address, FLAGSTAFF_TOKEN=self.token, **more)

    def made(self, *arguments: str) -> str:
        """The id of a new schedule."""
        made = self("create", *arguments, "--json")
        assert 0 == made.code, made.err
        return str(json.loads(made.out)["schedule"]["id"])


@pytest.fixture
def desk(run: Run, start: Start, write: Write, tmp_path: Path) -> Iterator[Desk]:
    """One server process, ended with the test."""
    assert 0 == run("import", write("flags.json", FLAGS)).code
    database = f"sqlite:///{tmp_path / 'flags.db'}"
    made = run("token", "create", "editor", "--role", "edit", f"--database-url={database}")
    told = serving(start("--json"))
    yield Desk(f"127.0.0.1:{told['grpc_port']}", made.out.strip(), run)


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_all_commands(desk: Desk, write: Write) -> None:
    """Made, listed, shown, previewed, moved, changed, run and cancelled."""
    launch = desk.made("--at", _in(3_600), "--enable", "banner", "--reason", "Launch")
    file = write(
        "writes.json",
        {
            "@type": "type.googleapis.com/flagstaff.v1.SetDefaultRuleRequest",
            "project": "default",
            "environment": "production",
            "key": "night",
            "serve": {"variant": "on"},
        },
    )
    night = desk.made("--cron", "0 18 * * FRI", "--zone", "Europe/Berlin", "--write", file, "--missed", "skip")
    preview = desk("preview", night)
    moved = desk("move", night, "--at", _in(3_600))
    updated = desk("update", night, "--enable", "night", "--default", "night=on")
    ran = desk("run", night)
    late = desk.made("--at", _in(3_600), "--enable", "night")
    cancelled = desk("cancel", late, "--reason", "Not now")
    assert 0 == desk("run", launch).code
    listed, executions, shown = desk("list", "--flag", "banner"), desk("executions", launch), desk("show", launch)

    assert "production: flag night: default off -> on" in preview.out
    assert f"schedule {night} is pending, due at" in moved.out
    assert "is pending" in updated.out
    assert f"schedule {night} is done" in ran.out
    assert f"schedule {late} is cancelled" in cancelled.out
    assert "Launch" in listed.out and "done" in listed.out
    assert "executed" in executions.out
    assert "token:" in shown.out and " executed" in shown.out


def test_what_is_refused(desk: Desk) -> None:
    """With what stands in the way; a time without a zone is none."""
    desk.made("--at", "2030-01-01T00:00:00Z", "--enable", "banner")
    overlap = desk("create", "--at", "2030-01-01T00:00:00Z", "--disable", "banner")
    past = desk("create", "--at", "2020-01-01T00:00:00Z", "--enable", "banner")
    vague = desk("create", "--at", "2030-01-01T00:00:00", "--enable", "banner")
    nothing = desk("create", "--at", "2030-01-01T00:00:00Z")

    assert (1, 1, 2, 2) == (overlap.code, past.code, vague.code, nothing.code)
    assert "at the same instant" in overlap.err
    assert "its instant is past" in past.err
    assert "not an instant with its time zone" in vague.err
