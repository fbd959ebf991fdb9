"""`flagstaff audit ...`: the trail as people and scripts read it, and what they are told of one that was touched."""

import json
import sqlite3
from pathlib import Path
from typing import Final

import pytest

from tests.cli.conftest import Run
from tests.cli.servers import Start, serving, stopped

FLAG: Final = '{{"flags": {{"{key}": {{"variants": {{"on": true, "off": false}}, "default": "{default}"}}}}}}'


@pytest.fixture
def changed(run: Run, tmp_path: Path) -> Run:
    """A command line over a database with four entries."""
    for default in ("off", "on"):
        path = tmp_path / "flags.json"
        path.write_text(FLAG.format(key="new-ui", default=default))
        assert 0 == run("import", path, "--reason", f"to {default}").code
    return run


def on(tmp_path: Path) -> str:
    """The option that names the test's database."""
    return f"--database-url=sqlite:///{tmp_path / 'flags.db'}"


def attack(tmp_path: Path, statement: str) -> None:
    """Change the file behind the program's back."""
    connection = sqlite3.connect(tmp_path / "flags.db")
    with connection:
        for verb in ("update", "delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS audit_entry_refuses_{verb}")
        connection.execute(statement)
    connection.close()


def test_entries_are_listed(changed: Run, tmp_path: Path) -> None:
    """The newest first, with what changed."""
    told = changed("audit", "list", "--subject", "flag/new-ui", on(tmp_path))
    few = changed("audit", "list", "--limit", "1", "--since", "1h", "--json", on(tmp_path)).json

    first, second, *_ = told.out.splitlines()[2:]
    assert "flag.updated new-ui" in first
    assert first.rstrip().endswith("default off -> on (to on)")
    assert second.rstrip().endswith("created (boolean, on, default off) (to off)")
    assert told.out.endswith("\n2 entries\n")
    assert ["flag.updated"] == [each["action"] for each in few["entries"]]


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00", "7 w"])
def test_an_instant_that_is_none_is_refused(changed: Run, tmp_path: Path, since: str) -> None:
    """With what would be one."""
    ran = changed("audit", "list", "--since", since, on(tmp_path))

    assert (1, True) == (ran.code, f"--since '{since}' is neither an instant with its time zone" in ran.err)


def test_a_whole_trail_is_whole(changed: Run, tmp_path: Path) -> None:
    """And a hint says what that does not prove."""
    ran = changed("audit", "verify", "--all", on(tmp_path))

    assert (0, "the server's trail: 0 entries, whole\nproject default: 4 entries, whole\n") == (ran.code, ran.out)
    assert "--heads" in ran.err


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit_entry SET actor = 'eve' WHERE sequence = 2", "entry 2 was changed after it was written"),
        ("DELETE FROM audit_entry WHERE sequence = 2", "entry 2 is missing, entry 3 follows"),
        ("DELETE FROM audit_entry WHERE sequence = 4", "entries after 3 are missing"),
        ("UPDATE audit_entry SET sequence = 9 WHERE sequence = 4", "entries 4 to 8 are missing"),
    ],
)
def test_a_touched_row_is_named(changed: Run, tmp_path: Path, statement: str, said: str) -> None:
    """And the exit code tells scripts."""
    attack(tmp_path, statement)
    ran = changed("audit", "verify", on(tmp_path))

    assert (1, True) == (ran.code, f"project default: {said}" in ran.err)
    assert "NOT whole" in ran.out


def test_a_head_proves_that_nothing_was_cut_off(changed: Run, tmp_path: Path) -> None:
    """Even where the rest of the database was put back too."""
    heads = tmp_path / "heads.jsonl"
    heads.write_text(changed("audit", "head", "--all", on(tmp_path)).out)
    whole = changed("audit", "verify", "--all", "--heads", heads, on(tmp_path))
    attack(tmp_path, "DELETE FROM audit_entry WHERE sequence = 4")
    attack(tmp_path, "UPDATE environment SET revision = 1")
    alone = changed("audit", "verify", on(tmp_path))
    found = changed("audit", "verify", "--all", "--heads", heads, on(tmp_path))

    assert [0, 0, 1] == [whole.code, alone.code, found.code]
    assert "entry 4 is missing at the end" in found.err
    assert "" == whole.err


def test_a_head_of_another_secret_needs_its_key(changed: Run, tmp_path: Path) -> None:
    """A head says who signed it; whom to trust, says who verifies."""
    other = {"FLAGSTAFF_SECRET_KEY": "x" * 40}
    heads = tmp_path / "heads.jsonl"
    heads.write_text(changed("audit", "head", on(tmp_path), **other).out)
    refused = changed("audit", "verify", "--heads", heads, on(tmp_path))
    key = json.loads(heads.read_text())["publicKey"]
    trusted = changed("audit", "verify", "--heads", heads, "--public-key", key, on(tmp_path))

    assert (1, True, 0) == (refused.code, "it is of another server" in refused.err, trusted.code)


def test_a_server_does_the_same(changed: Run, start: Start, tmp_path: Path) -> None:
    """Lists, exports, signs and verifies, over gRPC; an export is verified without it."""
    process = start("--json")
    server = f"--server=127.0.0.1:{serving(process)['grpc_port']}"
    export, heads = tmp_path / "audit.jsonl", tmp_path / "head.json"
    listed = changed("audit", "list", server)
    written = changed("audit", "export", "--output", export, server)
    heads.write_text(changed("audit", "head", server).out)
    checked = changed("audit", "verify", "--heads", heads, server)
    stopped(process)
    alone = changed("audit", "verify", "--export", export, "--public-key", json.loads(heads.read_text())["publicKey"])
    export.write_text(export.read_text().replace("to on", "to off"))
    touched = changed("audit", "verify", "--export", export)

    assert "4 entries" in listed.out
    assert (0, f"{export}: 4 entries and the signed head\n") == (written.code, written.err)
    assert [0, 0, 1] == [checked.code, alone.code, touched.code]
    assert "entry 4 was changed after it was written" in touched.err
