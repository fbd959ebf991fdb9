"""`flagstaff guard ...` and `flagstaff rollback ...` against a server process: a breach takes the flag back."""

import time
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, Ran, Run
from tests.cli.servers import TIMEOUT_S, Start, serving


@pytest.fixture
def command(run: Run, start: Start, tmp_path: Path) -> Run:
    """The commands, with a server over the sample shop."""
    assert 0 == run("import", SAMPLES).code
    told = serving(start("--json"))

    def call(*arguments: str) -> Ran:
        return run(*arguments, FLAGSTAFF_SERVER=f"127.0.0.1:{told['grpc_port']}")

    return call


def test_a_breach_takes_a_flag_back(command: Run) -> None:
    """From the first metric to what was said of the last judgement."""
    arguments = ("--metric", "errors", "--flag", "new-checkout", "--variant", "on", "--high", "0.05")
    record = ("metric", "record", "errors", "--flag", "new-checkout", "--variant", "on", "--denominator", "10")
    command("metric", "create", "errors", "--kind", "ratio")
    guard = command("guard", "create", "errors", *arguments, "--interval", "60")
    policy = command("rollback", "create", "checkout", "--flag", "new-checkout", "--guard", "errors")
    command(*record, "9")
    until = time.monotonic() + TIMEOUT_S
    while "cooling" not in (state := command("rollback", "show", "checkout").out):
        assert time.monotonic() < until, state
    listed = command("guard", "list")
    evaluations = command("guard", "evaluations", "--policy", "checkout", "--json").json["evaluations"]
    shown = command("evaluate", "new-checkout", "--targeting-key", "alice", "--json")
    armed = command("rollback", "arm", "checkout")
    signal = command("guard", "signal", "nobody")

    assert "guard errors watches\n" == guard.out
    assert "roll-back policy checkout is armed\n" == policy.out
    assert "fail: 0.9 is above 0.05" in listed.out
    assert ["rolled_back"] == [each["outcome"] for each in evaluations if each.get("outcome")]
    assert "DISABLED" == shown.json["reason"]
    assert "roll-back policy checkout is armed\n" == armed.out
    assert 1 == signal.code


def test_policies_are_made_and_listed(command: Run) -> None:
    """By tag, for an instant and a heartbeat, in the shadow; and taken away."""
    expiring = command("rollback", "create", "trial", "--flag", "new-checkout", "--expires-at", "2099-01-01T00:00:00Z")
    beating = command(
        *("rollback", "create", "probe", "--whole-environment", "--heartbeat", "probe", "--within", "3600", "--shadow")
    )
    beat = command("guard", "heartbeat", "probe")
    listed = command("rollback", "list")
    deleted = command("rollback", "delete", "trial")
    unsaid = command("rollback", "create", "x", "--signal", "alert")

    assert (0, 0) == (expiring.code, beating.code)
    assert "1 policy listens\n" == beat.out
    assert "expiry 2099-01-01 00:00 UTC" in listed.out and "shadow" in listed.out
    assert listed.out.endswith("\n2 roll-back policies\n")
    assert "roll-back policy trial is gone\n" == deleted.out
    assert (1, "error: say what is taken back: --flag, --tag, --plan or --whole-environment\n") == (
        unsaid.code,
        unsaid.err,
    )
