"""`flagstaff guard ...` and `flagstaff rollback ...` against a server process: a breach takes the flag back."""

import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import grpc
import pytest

from protos.flagstaff.v1 import guards_pb2 as messages
from protos.flagstaff.v1.guards_pb2_grpc import GuardServiceStub
from tests.cli.conftest import SAMPLES, Ran, Run
from tests.cli.servers import TIMEOUT_S, Start, serving


@dataclass
class Command:
    """Runs commands against one server."""

    run: Run
    address: str

    def __call__(self, *arguments: str) -> Ran:
        """What came of it."""
        return self.run(*arguments, FLAGSTAFF_SERVER=self.address)


@pytest.fixture
def command(run: Run, start: Start, tmp_path: Path) -> Command:
    """The commands, with a server over the sample shop."""
    assert 0 == run("import", SAMPLES).code
    told = serving(start("--json"))

    return Command(run, f"127.0.0.1:{told['grpc_port']}")


def test_a_breach_takes_a_flag_back(command: Command) -> None:
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


def test_they_are_watched_as_they_go_on(command: Command) -> None:
    """How everything is, then a line for each thing that happens, until so many have."""
    command("metric", "create", "errors", "--kind", "ratio")
    command("guard", "create", "errors", "--metric", "errors", "--high", "0.05", "--initial-delay", "3600")
    command("rollback", "create", "safe", "--flag", "new-checkout", "--guard", "errors", "--signal", "alert")
    over = Event()

    def disturb() -> None:
        # It may be before somebody watches, so again and again.
        with grpc.insecure_channel(command.address) as channel:
            stub = GuardServiceStub(channel)
            while not over.wait(0.1):
                stub.DisarmRollbackPolicy(messages.DisarmRollbackPolicyRequest(project="default", key="safe"))
                stub.ArmRollbackPolicy(messages.ArmRollbackPolicyRequest(project="default", key="safe"))

    disturbing = Thread(target=disturb)
    disturbing.start()
    try:
        watched = command("guard", "watch", "errors", "--limit", "1")
    finally:
        over.set()
        disturbing.join()

    assert 0 == watched.code, watched.err
    first, second, third, *_ = watched.out.splitlines()
    assert ("guard errors in production: nothing yet", "policy safe in production: ") == (first, second[:27])
    assert "policy safe" in third and "armed" in third


def test_policies_are_made_and_listed(command: Command) -> None:
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
