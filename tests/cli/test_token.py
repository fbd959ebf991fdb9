"""`flagstaff token ...`: the same on a database and by a server."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from protos.flagstaff.v1 import audit_pb2
from protos.flagstaff.v1.audit_pb2_grpc import AuditServiceStub
from tests.cli.conftest import Ran, Run
from tests.cli.servers import Start, serving, stopped

ENDS_WITHIN_S: Final = 5.0
TEXT: Final = re.compile(r"ff[sca]_([0-9A-Za-z]{8})_[0-9A-Za-z]{49}")


def on(tmp_path: Path) -> str:
    """The option that names the test's database."""
    return f"--database-url=sqlite:///{tmp_path / 'flags.db'}"


def read(ran: Ran) -> tuple[str, str]:
    """The token that was printed, and its id."""
    found = TEXT.fullmatch(ran.out.strip())
    assert found is not None, (ran.out, ran.err)
    return found[0], found[1]


def test_a_token_is_the_whole_output(run: Run, tmp_path: Path) -> None:
    """So that a script can take it; the rest is said on standard error. The key is made beside the database."""
    ran = run("token", "create", "ci", "--role", "edit@shop", "--role", "read", "--expires-in", "90d", on(tmp_path))
    text, identifier = read(ran)
    listed = run("token", "list", on(tmp_path))

    assert (0, "ffa_") == (ran.code, text[:4])
    assert f"token {identifier} (ci) may edit@shop, read until 2" in ran.err
    assert text not in ran.err
    assert [identifier, "ci", "edit@shop, read"] == re.split(r"\s{2,}", listed.out.splitlines()[2].strip())[:3]
    assert "1 token\n" in listed.out
    assert text[13:] not in listed.out


def test_a_revoked_token_is_listed_with_all(run: Run, tmp_path: Path) -> None:
    """And not without; revoking it twice says that there is nothing to do."""
    _, identifier = read(run("token", "create", "web", "--role", "evaluate-client@shop/production", on(tmp_path)))
    said = [run("token", "revoke", identifier, on(tmp_path)).out for _ in range(2)]
    few = run("token", "list", "--json", on(tmp_path)).json
    many = run("token", "list", "--all", "--json", on(tmp_path)).json

    assert (f"  token {identifier} is revoked\n", "nothing to do: it is so already\n") == tuple(said)
    assert (0, [identifier]) == (len(few.get("tokens", [])), [each["id"] for each in many["tokens"]])


def test_a_token_is_rotated(run: Run, tmp_path: Path) -> None:
    """The new one is printed; the old one ends soon."""
    _, old = read(run("token", "create", "ci", "--role", "read", on(tmp_path)))
    _, new = read(run("token", "rotate", old, "--overlap", "2h", on(tmp_path)))
    tokens: Any = {each["id"]: each for each in run("token", "list", "--json", on(tmp_path)).json["tokens"]}

    assert (new, True) == (tokens[old]["replacedBy"], "expiresAt" in tokens[old])
    assert "expiresAt" not in tokens[new]


def test_roles_without_a_place_are_for_the_home(run: Run, tmp_path: Path) -> None:
    """A token that is managed in a project reaches no further by default, and cannot."""
    run("import", "-", "--project", "shop", text='{"flags": {}}')
    made = run("token", "create", "ci", "--role", "read", "--project", "shop", "--json", on(tmp_path))
    beyond = run("token", "create", "ci", "--role", "read@bank", "--project", "shop", on(tmp_path))

    assert [{"role": "read", "project": "shop"}] == made.json["token"]["roles"]
    assert (1, True) == (beyond.code, "reaches beyond shop" in beyond.err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--role", "root"], "'root' is no role"),
        (["create", "x", "--role", "read", "--expires-in", "soon"], "'soon' is no duration"),
        (["create", "", "--role", "read"], "CreateTokenRequest needs name"),
        (["revoke", "nothing"], "token 'nothing' does not exist"),
        (["rotate", "nothing", "--overlap", "1y"], "'1y' is no duration"),
    ],
)
def test_what_is_wrong_is_said(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    """With exit code 1."""
    run("token", "create", "first", "--role", "read", on(tmp_path))
    ran = run("token", *arguments, on(tmp_path))

    assert (1, True) == (ran.code, said in ran.err), ran.err


def test_a_dry_run_makes_no_token(run: Run, tmp_path: Path) -> None:
    """It says what would be."""
    ran = run("token", "create", "ci", "--role", "read", "--dry-run", on(tmp_path))

    assert (0, True) == (ran.code, ran.out.startswith("a dry run: nothing was changed"))
    assert "0 tokens" in run("token", "list", "--all", on(tmp_path)).out


def test_a_server_that_asks_for_tokens(start: Start, run: Run) -> None:
    """Its first start shows one for an administrator, once; with it, others are made and ended by the server."""
    process = start("--demo", "--json", "--require-token")
    told = serving(process)
    here = {"FLAGSTAFF_SERVER": f"127.0.0.1:{told['grpc_port']}"}
    admin = {**here, "FLAGSTAFF_TOKEN": told["admin_token"]}
    text, identifier = read(run("token", "create", "ci", "--role", "read", **admin))
    me = run("token", "whoami", **here, FLAGSTAFF_TOKEN=text)
    refused = [run("token", "list", **here), run("token", "list", **here, FLAGSTAFF_TOKEN=text)]
    assert 0 == run("token", "revoke", identifier, **admin).code
    stopped(process)
    again = serving(start("--json", "--require-token"))

    assert "admin_token" not in again
    assert f"token:{identifier}: read\n" == me.out
    assert [1, 1] == [each.code for each in refused]
    assert "asks everyone for a token" in refused[0].err
    assert "may not administer anywhere; it needs the role `admin`" in refused[1].err


def test_servers_of_one_database_know_its_tokens_at_once(start: Start, run: Run) -> None:
    """A new one is good at the other server with its first call, and a revoked one ends there within 5 s.

    So do its streams, which is what the watching command ends by.
    """
    made, asked = (serving(start("--demo", "--json", "--require-token")) for _ in range(2))
    there = {"FLAGSTAFF_SERVER": f"127.0.0.1:{asked['grpc_port']}"}
    admin = {"FLAGSTAFF_SERVER": f"127.0.0.1:{made['grpc_port']}", "FLAGSTAFF_TOKEN": made["admin_token"]}
    text, identifier = read(run("token", "create", "ci", "--role", "read", **admin))
    first = run("token", "whoami", **there, FLAGSTAFF_TOKEN=text)
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watched, there["FLAGSTAFF_SERVER"], text)
        assert 0 == run("token", "revoke", identifier, **admin).code
        told = watching.result(ENDS_WITHIN_S)
    last = run("token", "whoami", **there, FLAGSTAFF_TOKEN=text)

    assert (0, f"token:{identifier}: read\n") == (first.code, first.out), first.err
    assert f"token:{identifier} was revoked" in told
    assert (1, True) == (last.code, f"token:{identifier} was revoked" in last.err)


def watched(server: str, token: str) -> str:
    """What a stream of a project's audit trail ends with."""
    with grpc.insecure_channel(server) as channel:
        request = audit_pb2.WatchAuditEntriesRequest(project="default")
        stream = AuditServiceStub(channel).WatchAuditEntries(request, metadata=(("authorization", f"Bearer {token}"),))
        try:
            for _ in stream:
                continue
        except grpc.RpcError as error:
            return error.details() or ""
        return ""


def test_an_open_server_needs_none(start: Start, run: Run) -> None:
    """On loopback, as long as nobody requires tokens."""
    told = serving(start("--demo", "--json"))
    ran = run("token", "whoami", "--json", FLAGSTAFF_SERVER=f"127.0.0.1:{told['grpc_port']}")

    assert ("open", False) == (ran.json["actor"], "admin_token" in told)


def test_people_see_the_first_token(start: Start) -> None:
    """On standard output, before the server says where it is; never in the log."""
    process = start("--require-token")
    assert process.stdout is not None
    first = process.stdout.readline()
    _, _, err = stopped(process)

    found = re.fullmatch(r"admin token, shown this once: (ffa_\w+)\n", first)
    assert found is not None
    assert found[1] not in err


def test_require_and_open_contradict(run: Run) -> None:
    """Wrong usage."""
    assert 2 == run("serve", "--require-token", "--open").code
