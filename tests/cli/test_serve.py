"""The command `flagstaff serve`, as a process of its own."""

import json
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cli.conftest import Run, Write
from tests.cli.documents import SWITCH, document
from tests.cli.servers import TIMEOUT_S, Start, serving, stopped


def ready(told: dict[str, Any]) -> Any:
    """What /readyz says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{told['http_port']}/readyz", timeout=TIMEOUT_S) as reply:
        return json.load(reply)


def test_json_tells_the_ports_and_the_flag_sets(start: Start) -> None:
    """In one line, once it can evaluate; SIGTERM ends it with 0."""
    process = start("--demo", "--json")
    told = serving(process)
    answer = ready(told)
    code, out, _ = stopped(process)

    assert (("serving", "127.0.0.1"), (0, "")) == ((told["event"], told["host"]), (code, out))
    assert {"default/production": {"revision": 1, "flags": 7}} == told["flag_sets"] == answer["flagSets"]
    assert all(1 <= told[name] <= 65_535 for name in ("grpc_port", "sync_port", "http_port"))


def test_people_are_told_in_words(start: Start) -> None:
    """A line for each port, and what is served."""
    process = start("--demo")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    stopped(process)

    assert ["gRPC", "gRPC", "HTTP"] == [line.split()[0] for line in lines[:3]]
    assert "7 flags in default/production, revision 1, the default flag set\n" == lines[3]


def test_sample_flags_never_overwrite(start: Start, run: Run, write: Write) -> None:
    """An environment that has flags keeps them; the same command with another environment loads them there."""
    run("import", write("flags.json", document(a=SWITCH)))
    process = start("--demo", "--json")
    told = serving(process)
    _, _, messages = stopped(process)
    other = serving(start("--demo", "--json", "--environment", "staging"))

    assert {"default/production": {"revision": 1, "flags": 1}} == told["flag_sets"]
    assert "has flags already" in messages
    assert 7 == other["flag_sets"]["default/staging"]["flags"]


def test_an_import_reaches_a_running_server(start: Start, run: Run, write: Write) -> None:
    """Without a restart."""
    told = serving(start("--json"))
    run("import", write("flags.json", document(a=SWITCH, b=SWITCH)))
    until = time.monotonic() + TIMEOUT_S
    while not (sets := ready(told)["flagSets"]) and time.monotonic() < until:
        time.sleep(0.02)

    assert {"default/production": {"revision": 1, "flags": 2}} == sets


@pytest.mark.parametrize(("option", "kept"), [((), "flags.db.last-known-good"), (("--last-known-good=lkg",), "lkg")])
def test_the_last_good_flags_are_kept(start: Start, tmp_path: Path, option: tuple[str, ...], kept: str) -> None:
    """Beside the database, or where the option says; a start without the database serves from there."""
    process = start("--demo", "--json", *option)
    first = serving(process)
    stopped(process)
    (tmp_path / "flags.db").unlink()
    second = serving(start("--json", *option))

    assert ["default@production.jsonl", "identity"] == sorted(path.name for path in (tmp_path / kept).iterdir())
    assert first["flag_sets"] == second["flag_sets"]


def test_nothing_is_kept_when_it_is_off(start: Start, tmp_path: Path) -> None:
    """`--last-known-good off`."""
    process = start("--demo", "--json", "--last-known-good", "off")
    serving(process)
    stopped(process)

    assert [] == [path for path in tmp_path.iterdir() if not path.name.startswith("flags.db")]
    assert not (tmp_path / "flags.db.last-known-good").exists()


@pytest.mark.parametrize("name", ["grpc", "sync", "http"])
def test_a_port_that_is_taken_is_told(start: Start, name: str) -> None:
    """Exit code 1 and one line, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(f"--{name}-port={port}")
        out, err = process.communicate(timeout=TIMEOUT_S)

    assert (1, "") == (process.returncode, out)
    assert f"error: cannot listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in err


def test_an_open_address_is_warned_about(start: Start) -> None:
    """There are no tokens: who reaches the port may evaluate."""
    process = start("--json", "--host", "0.0.0.0")
    serving(process)
    _, _, err = stopped(process)
    quiet = start("--json", "--host", "localhost")
    serving(quiet)

    assert err.startswith("WARNING: listening on 0.0.0.0 without asking for tokens: ")
    assert "WARNING" not in stopped(quiet)[2]


def test_an_address_that_is_no_database_is_refused(start: Start) -> None:
    """Exit code 1, at once."""
    process = start("--database-url", "mysql://localhost/flags")
    _, err = process.communicate(timeout=TIMEOUT_S)

    assert 1 == process.returncode
    assert "expected sqlite:///" in err


def test_contexts_and_streams_follow_the_options(start: Start, run: Run, write: Write) -> None:
    """Values and headers reach the rules, and a stream ends at its age."""
    told_tier = {"if": [{"var": "tier"}, {"cat": [{"var": "tier"}, {"var": "region"}]}, "none"]}
    variants = {name: name for name in ("none", "goldeu", "fixedeu")}
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "none", "targeting": told_tier}
    run("import", write("flags.json", json.dumps({"flags": {"tier": flag}})))
    added = ("--context-value=region=eu,tier=fixed", "--context-from-header=X-Tier=tier")
    told = serving(start("--json", *added, "--max-connection-age=1"))
    with grpc.insecure_channel(f"127.0.0.1:{told['grpc_port']}") as channel:
        evaluate = channel.unary_unary("/flagd.evaluation.v1.Service/ResolveString", None, None)
        fixed, header = (evaluate(b"\x0a\x04tier", metadata=each) for each in ((), (("x-tier", "gold"),)))
        stream = channel.unary_stream("/flagd.evaluation.v2.Service/EventStream", None, None)(b"", timeout=TIMEOUT_S)
        with pytest.raises(grpc.RpcError):
            list(stream)

    assert [True, True] == [b"fixedeu" in fixed, b"goldeu" in header]
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, True) == (stream.code(), "has lasted for 1 s" in stream.details())


def test_logs_can_be_json(start: Start) -> None:
    """One object a line, on standard error; at the level that is asked for."""
    process = start("--demo", "--json", "--log-json")
    serving(process)
    _, _, err = stopped(process)
    silent = start("--json", "--log-level", "error")
    serving(silent)

    assert {"serving flag set", "stopping"} <= {json.loads(line)["message"] for line in err.splitlines()}
    assert "" == stopped(silent)[2]
