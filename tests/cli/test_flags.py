"""The command `flagstaff flags`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.cli.conftest import Run, Write
from tests.cli.documents import SWITCH, document, flagd_flag

ROOT: Final = Path(__file__).resolve().parents[2]


def test_flags_are_listed_by_key(shop: Run) -> None:
    """With type, state, default and how many rules; nothing is cut where there is no terminal."""
    lines = shop("flags").out.splitlines()

    assert ["key", "type", "state", "default", "rules"] == lines[0].split()
    assert "button-colour        string    on      blue 1 / green 1   -" == lines[3]
    assert "7 flags, 2 segments in default/production, revision 1" == lines[-1]


def test_states_are_told_apart(run: Run, write: Write) -> None:
    """On, off and archived; a flag with raw targeting has no rules to count."""
    raw = {"variants": {"on": True}, "targeting": flagd_flag({"if": [True, "on"]})["targeting"]}
    archived = {**SWITCH, "archivedAt": "2026-01-01T00:00:00Z"}
    run("import", write("flags.json", document(a=SWITCH, b={**SWITCH, "enabled": False}, c=archived, d=raw)))
    flags = run("flags", "--json").json["flags"]

    assert [("on", 0), ("off", 0), ("archived", 0), ("on", "flagd targeting")] == [
        (flag["state"], flag["rules"]) for flag in flags
    ]


def test_json_names_the_set_and_its_revision(run: Run, write: Write) -> None:
    """Beside the flags."""
    run("import", write("flags.json", document(a={**SWITCH, "description": "A switch"})))
    flag = {"key": "a", "type": "boolean", "state": "on", "default": "off", "rules": 0, "description": "A switch"}

    assert {"flagSet": "default/production", "revision": 1, "flags": [flag]} == run("flags", "--json").json


def test_any_terminal_can_show_them(shop: Run, tmp_path: Path) -> None:
    """One that lacks the letters gets escapes, and not a traceback; documents are UTF-8 always."""
    shop("import", "-", text="flags: {旗: {variants: {'上': true}, default: '上'}}")
    url = f"sqlite:///{tmp_path / 'flags.db'}"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(ROOT), "FLAGSTAFF_DATABASE_URL": url}

    def outcome(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "server", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)

    listed, described, exported = outcome("flags"), outcome("flags", "--json"), outcome("export")

    assert (b"\\u65d7" in listed.stdout, 0, b"") == (True, listed.returncode, listed.stderr)
    assert "旗" in [flag["key"] for flag in json.loads(described.stdout)["flags"]]
    assert "旗" in exported.stdout.decode("utf-8")


def test_brackets_in_a_key_are_no_markup(run: Run, write: Write) -> None:
    """What is listed is what was written."""
    run("import", write("flags.json", document(**{"[bold]a[/bold]": SWITCH})))

    assert "[bold]a[/bold]" in run("flags").out
