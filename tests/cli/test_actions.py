"""`flagstaff action ...` and `flagstaff trigger ...`: what tools do, by hand; and addresses that a server answers."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from server.cli.action_inputs import read_inputs
from server.core.errors import InvalidRequest
from tests.cli.conftest import Run
from tests.cli.servers import Start, serving, stopped

Ask: TypeAlias = Callable[..., Any]


@pytest.fixture
def ask(run: Run, start: Start, tmp_path: Path) -> Iterator[Ask]:
    """A command line beside a server with a flag; its attribute `http` is where the server answers over HTTP."""
    path = tmp_path / "flags.json"
    path.write_text('{"flags": {"new-ui": {"variants": {"on": true, "off": false}, "default": "on"}}}')
    assert 0 == run("import", path).code
    process = start("--json")
    told = serving(process)

    def asked(*words: str) -> Any:
        return run(*words, f"--server=127.0.0.1:{told['grpc_port']}")

    asked.http = f"http://127.0.0.1:{told['http_port']}"  # type: ignore[attr-defined]
    yield asked
    _, _, log = stopped(process)
    assert "/v1/triggers/" + "0" not in log and log.count("/v1/triggers/") == log.count("/v1/triggers/{secret}")


def post(address: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    """Post to the server."""
    request = urllib.request.Request(address, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_actions_by_hand(ask: Ask) -> None:
    """Listed, described, run and refused; and the same over HTTP."""
    here = ("--environment", "production")
    body = {"project": "default", "environment": "production", "flag_key": "new-ui", "targeting_key": "ann"}
    path = f"{ask.http}/v1/actions/evaluate_flag"  # type: ignore[attr-defined]
    value = post(path, json.dumps(body).encode(), **{"content-type": "application/json"})
    listed, schema = ask("action", "list").out, ask("action", "list", "kill_flag").json
    off = ask("action", "run", "set_flag_state", "flag_key=new-ui", "enabled=false", *here, "--reason", "Night")
    again = ask("action", "run", "set_flag_state", "flag_key=new-ui", "enabled=false", *here)
    found = ask("action", "run", "find_flags", "text=ui", *here).json
    wrong = ask("action", "run", "set_flag_state", "flag_key=new-ui", *here)

    assert "set_rollout_share" in listed
    assert "incident_url" in schema["properties"]
    assert (0, "applied") == (off.code, off.out.splitlines()[0])
    assert "events: evt_" in off.out
    assert "noop\n" == again.out
    assert [("new-ui", False)] == [(each["flag_key"], each["enabled"]) for each in found]
    assert (1, True) == (wrong.code, "/enabled" in wrong.err)
    assert (200, "STATIC") == (value[0], value[1]["items"][0]["reason"])
    assert 1 == ask("action", "list", "explode").code


def test_addresses_by_hand(ask: Ask) -> None:
    """Made, called, rotated, disabled and deleted; the log names no secret."""
    here = ("--environment", "production")
    made = ask("trigger", "create", "pager", "kill_flag", "flag_key=new-ui", *here, "--json").json
    called = post(f"{ask.http}{made['path']}")  # type: ignore[attr-defined]
    id = made["trigger"]["id"]
    rotated = ask("trigger", "rotate", id)
    gone = post(f"{ask.http}{made['path']}")  # type: ignore[attr-defined]
    disabled = ask("trigger", "disable", id)
    listed, shown = ask("trigger", "list").out, ask("trigger", "show", id).json
    enabled = ask("trigger", "enable", id)
    deleted = ask("trigger", "delete", id)

    assert (200, "applied") == (called[0], called[1]["results"][0]["status"])
    assert 404 == gone[0]
    assert "its address, shown once: /v1/triggers/" in rotated.out
    assert "disabled" in listed
    assert {"flag_key": "new-ui"} == shown["firing"]["inputs"]
    assert [0, 0, 0, 0] == [each.code for each in (rotated, disabled, enabled, deleted)]
    elsewhere = ask("trigger", "create", "a", "--preset", "grafana", "--environment", "staging")
    signed = ask("trigger", "create", "a", "--preset", "grafana", "--require-signature", *here)
    assert (1, 0) == (elsewhere.code, signed.code)
    assert "its signing secret, shown once: whsec_" in signed.out


def test_inputs_are_json_or_text() -> None:
    """Numbers, booleans and lists as JSON has them; whatever else is text."""
    words = [
        "percent=25",
        "enabled=true",
        'add=["a"]',
        "flag_key=new-ui",
        'text="25"',
        "at=2027-01-04T09:00:00Z",
        "x=a=b",
    ]

    assert {
        "percent": 25,
        "enabled": True,
        "add": ["a"],
        "flag_key": "new-ui",
        "text": "25",
        "at": "2027-01-04T09:00:00Z",
        "x": "a=b",
    } == read_inputs(words)
    for wrong in (["on"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(InvalidRequest):
            read_inputs(wrong)
