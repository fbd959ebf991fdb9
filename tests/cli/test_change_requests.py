"""`flagstaff change-request ...` and `flagstaff simulate` against a server process, as people with tokens."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub
from server.core.changes import UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.store.commit import commit
from server.store.engine import open_engine
from tests.cli.conftest import Ran, Run, Write
from tests.cli.servers import Start, serving

FLAGS: Final = {
    "flags": {
        "banner": {
            "variants": {"on": True, "off": False},
            "default": "off",
            "rules": [{"id": "beta", "serve": "on", "share": {"percent": 20}}],
        }
    }
}
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Desk:
    """A server whose production asks for one approval, and tokens of those who work with it."""

    address: str
    tokens: dict[str, str]
    run: Run

    def __call__(self, *arguments: str, by: str = "editor", **more: Any) -> Ran:
        """Run a command as somebody."""
        return self.run(*arguments, FLAGSTAFF_SERVER=self.address, FLAGSTAFF_TOKEN=self.tokens[by], **more)

    def ask(self, key: str = "banner") -> str:
        """The id of a change request that a call of FlagService became."""
        with grpc.insecure_channel(self.address) as channel:
            request = flags.SetDefaultRuleRequest(project="default", environment="production", key=key)
            request.serve.variant = "on"
            request.options.reason = "Winter sale"
            metadata: Any = [("authorization", f"Bearer {self.tokens['editor']}")]
            reply = FlagServiceStub(channel).SetDefaultRule(request, metadata=metadata)
        assert common.OUTCOME_REQUESTED == reply.result.outcome
        return str(reply.result.change_request)


@pytest.fixture
def desk(run: Run, start: Start, write: Write, tmp_path: Path) -> Iterator[Desk]:
    """One server process, ended with the test."""
    database = f"sqlite:///{tmp_path / 'flags.db'}"
    assert 0 == run("import", write("flags.json", FLAGS)).code
    engine = open_engine(database)
    change = UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1))
    commit(engine, project="default", environment="production", changes=[change], actor="test", now=NOW)
    engine.dispose()
    roles = {"editor": "edit", "approver": "approve", "reader": "read", "firefighter": "bypass"}
    tokens = {}
    for name, role in roles.items():
        made = run("token", "create", name, "--role", role, "--role", "edit" if role == "bypass" else role,
                   f"--database-url={database}")  # fmt: skip
        tokens[name] = made.out.strip()
    told = serving(start("--json"))
    yield Desk(f"127.0.0.1:{told['grpc_port']}", tokens, run)


def test_from_asking_to_applying(desk: Desk) -> None:
    """Listed, shown with its difference, approved by somebody else, applied; each says how it is then."""
    id = desk.ask()
    listed = desk("change-request", "list", "--state", "open", "--flag", "banner")
    shown = desk("change-request", "show", id)
    own = desk("change-request", "approve", id)
    early = desk("change-request", "apply", id)
    said = desk("change-request", "comment", id, "Why now?", by="approver")
    approved = desk("change-request", "approve", id, "--comment", "Fine", by="approver")
    applied = desk("change-request", "apply", id)
    after = desk("change-request", "show", id, "--json").json
    told = desk("change-request", "show", id).out

    assert (0, True, True) == (listed.code, id in listed.out, "Winter sale" in listed.out)
    assert "flag banner: default off -> on" in shown.out
    assert "production asks for 1 approval and has 0" in shown.out
    assert (1, "may not approve") == (own.code, own.err[own.err.index("may not") :][:15])
    assert (1, True) == (early.code, "asks for 1 approval and has 0" in early.err)
    assert f"change request {id} is open" in said.out
    assert f"change request {id} is approved" in approved.out
    assert (0, True) == (applied.code, f"change request {id} is applied\n" in applied.out)
    assert "production is at revision 3" in applied.out
    assert "approved, which is enough: Fine" in told
    assert ("applied", ["opened", "commented", "completed", "applied"]) == (
        after["changeRequest"]["state"],
        [each["happening"] for each in after["steps"]],
    )


def test_a_no_another_try_and_the_end(desk: Desk, write: Write) -> None:
    """Rejected with a reason, updated from a file, withdrawn."""
    id = desk.ask()
    rejected = desk("change-request", "reject", id, "--comment", "Not in December", by="approver")
    changed = {"flags": {"banner": {**FLAGS["flags"]["banner"], "description": "In winter"}}}
    updated = desk("change-request", "update", id, "--file", write("other.json", changed), "--reason", "Better")
    withdrawn = desk("change-request", "withdraw", id)
    shown = desk("change-request", "show", id)

    assert [0, 0, 0] == [rejected.code, updated.code, withdrawn.code]
    assert f"change request {id} is rejected" in rejected.out
    assert f"change request {id} is open" in updated.out
    assert "withdrawn, asked for by" in shown.out and "description" in shown.out and "Better" in shown.out
    assert "approver" not in shown.err


def test_at_a_time(desk: Desk) -> None:
    """The server applies it by itself; a time without its zone is refused before anything is sent."""
    id = desk.ask()
    assert 0 == desk("change-request", "approve", id, by="approver").code
    vague = desk("change-request", "apply", id, "--at", "2030-01-01T09:00:00")
    scheduled = _scheduled(desk, id)
    _until(lambda: desk("change-request", "show", id, "--json").json["changeRequest"]["state"] == "applied")
    after = desk("change-request", "show", id, "--json").json

    assert 2 == vague.code and "not an instant with its time zone" in " ".join(vague.err.replace("│", " ").split())
    assert scheduled["changeRequest"]["scheduledBy"].startswith("token:")
    assert ["opened", "completed", "scheduled", "applied"] == [each["happening"] for each in after["steps"]]
    assert scheduled["changeRequest"]["scheduledBy"] == after["steps"][-1]["actor"]


def _scheduled(desk: Desk, id: str) -> Any:
    """Have it applied soon: as soon as a busy machine still hears of it beforehand."""
    for delay_s in (2, 10, 60):
        soon = datetime.now(UTC) + timedelta(seconds=delay_s)
        ran = desk("change-request", "apply", id, "--at", soon.isoformat(), "--json")
        if ran.code == 0:
            return ran.json
        assert "within a year from now" in ran.err
    raise AssertionError("no time was far enough ahead")


def _until(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 180
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_in_an_emergency(desk: Desk) -> None:
    """With the right to it and a reason."""
    id = desk.ask()
    refused = desk("change-request", "apply", id, "--bypass-approval", "--reason", "Fire")
    applied = desk("change-request", "apply", id, "--bypass-approval", "--reason", "Fire", by="firefighter")

    assert (1, True) == (refused.code, "may not do without them" in refused.err)
    assert 0 == applied.code


def test_a_file_is_simulated(desk: Desk, write: Write) -> None:
    """Who moves, and that approvals would be asked for; a reader may ask."""
    wider = {"flags": {"banner": {**FLAGS["flags"]["banner"], "rules": [
        {"id": "beta", "serve": "on", "share": {"percent": 40}}]}}}  # fmt: skip
    told = desk("simulate", write("wider.json", wider), "--units", "500", by="reader")
    by_json = desk("simulate", write("wider.json", wider), "--json").json

    assert 1 == told.code
    assert "flag banner: share of rule beta 20 % -> 40 %" in told.out
    assert "of 500 units move" in told.out and "off -> on: " in told.out
    assert "in the way: token:" in told.out
    assert "in the way: default/production asks for one approval" in told.out
    assert ["approval"] == [each["kind"] for each in by_json["inTheWay"]]


def test_a_broken_law_is_told(desk: Desk, write: Write) -> None:
    """With how many are moved, and why; contexts may be one's own."""
    other = {"flags": {"banner": {**FLAGS["flags"]["banner"], "rules": [
        {"id": "beta", "serve": "on", "share": {"percent": 40, "bucketBy": "account"}}]}}}  # fmt: skip
    users = "".join(f'{{"targetingKey": "u{each}", "account": "a{each % 7}"}}\n' for each in range(200))
    told = desk("simulate", write("other.json", other), "--contexts", write("users.jsonl", users))

    assert 1 == told.code
    assert "broken law: the share of rule beta goes from 20 % to 40 %" in told.out, told.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "name either a FILE"),
        (("--change-request", "cr_1", "--remove-flag", "x"), 2, "name either a FILE"),
        (("--change-request", "cr_1"), 1, "'cr_1' is not in project"),
        (("--remove-flag", "none"), 1, "'none' is not in 'default/production'"),
        (("--remove-flag", "banner", "--units", "5", "--recent"), 2, "exclude each other"),
        (("--remove-flag", "banner", "--recent"), 1, "--recent-contexts"),
        (("--remove-flag", "banner", "--attributes", "[1]"), 1, "is not a JSON object"),
    ],
)
def test_what_cannot_be_simulated(desk: Desk, arguments: tuple[str, ...], code: int, words: str) -> None:
    """It says what is wrong, with the exit code that says whose fault it is."""
    told = desk("simulate", *arguments)

    assert code == told.code, told.err
    assert words in told.err + told.out
