"""`flagstaff rule ...` against a server process, and rules that are answered by one."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, Run
from tests.cli.servers import Start, serving, stopped

FLAGS = {key: {"variants": {"on": True, "off": False}, "default": "on"} for key in ("new-ui", "payments", "banner")}
WAIT_S = 30.0


@pytest.fixture
def flags(run: Run, tmp_path: Path) -> None:
    """Three flags that are on."""
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": FLAGS}))
    assert 0 == run("import", path).code


def asker(run: Run, told: dict[str, Any]) -> Callable[..., Ran]:
    """A command line for a server."""

    def ask(*words: str, **more: Any) -> Ran:
        return run(*words, f"--server=127.0.0.1:{told['grpc_port']}", **more)

    return ask


def awaited(ask: Callable[..., Ran], id: str, state: str) -> Any:
    """The newest run of a rule, once it is in a state."""
    until = time.monotonic() + WAIT_S
    while True:
        runs = ask("rule", "runs", id, "--json").json["runs"]
        if runs and runs[0]["state"] == state:
            return runs[0]
        assert time.monotonic() < until, runs
        time.sleep(0.05)


@pytest.mark.usefixtures("flags")
def test_a_rule_does_what_it_says(run: Run, start: Start) -> None:
    """When something happens, a moment later, with the event as its cause."""
    process = start("--json")
    ask = asker(run, serving(process))
    inputs = ("--input", "flag_key=banner", "--input", "enabled=false")
    made = ask("rule", "create", "Together", "--on", "flag.killed", "--do", "set_flag_state", *inputs, "--json")
    id = made.json["rule"]["id"]
    tried = ask(
        "rule",
        "try",
        id,
        "--event-file",
        "-",
        text=json.dumps({"type": "flag.killed", "environment": "production", "data": {"flag_key": "payments"}}),
    )
    assert 0 == ask("flag", "kill", "payments", "--environment", "production").code
    done = awaited(ask, id, "done")
    (off,) = ask("event", "list", "--type", "flag.disabled", "--json").json["events"]
    listed, shown = ask("rule", "list"), ask("rule", "show", id)
    disabled = ask("rule", "disable", id, "--reason", "too eager")
    updated = ask("rule", "update", id, "--on", "flag.stale")
    nothing = ask("rule", "update", id)
    deleted = ask("rule", "delete", id)
    presets = ask("rule", "presets")
    stopped(process)

    assert (0, True) == (tried.code, tried.out.startswith("it would have set_flag_state done: "))
    assert ("banner", "rule", id, done["eventId"], 1) == (
        off["data"]["flag_key"],
        off["actorType"],
        off["actorId"],
        off["causationId"],
        off["hops"],
    )
    assert "applied" == json.loads(done["result"])["status"]
    assert listed.out.endswith("\n1 rule in default\n")
    assert f"{id}: Together, enabled, version 1\n" in shown.out
    assert f"rule {id} is disabled\n" == disabled.out
    assert f"rule {id} is changed\n" == updated.out
    assert (2, f"rule {id} is gone\n") == (nothing.code, deleted.out)
    assert "stale-notice" in presets.out


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("point", ["rules.looked", "rules.claimed", "rules.done"])
def test_a_killed_server_doubles_nothing_and_loses_nothing(run: Run, start: Start, tmp_path: Path, point: str) -> None:
    """Wherever it is killed, another one does what is left, once."""
    first = start("--json", FLAGSTAFF_FAILPOINT=point)
    ask = asker(run, serving(first))
    inputs = ("--input", "flag_key=banner", "--input", "enabled=false")
    made = ask("rule", "create", "Together", "--on", "flag.killed", "--do", "set_flag_state", *inputs, "--json")
    # Its answer may be lost with the server, which is killed for it.
    ask("flag", "kill", "payments", "--environment", "production")
    assert -9 == first.wait(WAIT_S)
    with sqlite3.connect(tmp_path / "flags.db") as database:
        # The lease is over.
        database.execute("UPDATE rule_run SET due_at = '2020-01-01 00:00:00.000000' WHERE due_at IS NOT NULL")
    database.close()
    second = start("--json")
    ask = asker(run, serving(second))
    done = awaited(ask, made.json["rule"]["id"], "done")
    events = ask("event", "list", "--type", "flag.disabled", "--json").json["events"]
    stopped(second)

    assert [("banner", done["eventId"])] == [(each["data"]["flag_key"], each["causationId"]) for each in events]
