"""`flagstaff event ...`: the feed as people and scripts read it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.cli.conftest import Run
from tests.cli.servers import Start, serving, stopped

Ask: TypeAlias = Callable[..., Any]


@pytest.fixture
def ask(run: Run, start: Start, tmp_path: Path) -> Iterator[Ask]:
    """A command line beside a server, with a flag that was killed."""
    path = tmp_path / "flags.json"
    path.write_text('{"flags": {"new-ui": {"variants": {"on": true, "off": false}, "default": "on"}}}')
    assert 0 == run("import", path).code
    process = start("--json")
    server = f"--server=127.0.0.1:{serving(process)['grpc_port']}"

    def asked(*words: str) -> Any:
        return run(*words, server)

    assert 0 == asked("flag", "kill", "new-ui", "--environment", "production", "--reason", "Errors").code
    yield asked
    stopped(process)


def test_events_are_listed(ask: Ask) -> None:
    """The newest first, with what each is about."""
    told = ask("event", "list")
    few = ask("event", "list", "--type", "flag.*", "--limit", "1", "--json").json

    first = told.out.splitlines()[2]
    assert all(word in first for word in ("flag.killed", "production", "new-ui Errors"))
    assert told.out.endswith(" events\n")
    assert [("flag.killed", False)] == [(each["type"], each["data"]["enabled"]) for each in few["events"]]


def test_types_are_listed(ask: Ask) -> None:
    """When each is told; and one of them as a JSON Schema."""
    table = ask("event", "types").out
    schema = json.loads(ask("event", "types", "flag.killed").out)
    unknown = ask("event", "types", "flag.teleported")

    assert "flag.killed" in table
    assert "It was switched off by a kill, whatever stood in the way." in table
    assert ("flag.killed", "object") == (schema["title"], schema["type"])
    assert "no event is called 'flag.teleported'" in unknown.err


def test_a_wrong_type_is_refused(ask: Ask) -> None:
    """With how to find the right one."""
    ran = ask("event", "list", "--type", "flag.teleported")

    assert (1, True) == (ran.code, "`flagstaff event types` lists them" in ran.err)
