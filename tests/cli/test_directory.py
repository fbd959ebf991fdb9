"""`flagstaff plan` and `flagstaff apply`, against a real server."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run, Write
from tests.cli.servers import Start, serving


@pytest.fixture
def server(shop: Run, start: Start, write: Write, tmp_path: Path) -> str:
    """A server over two environments, which the directory `flags` says too; its address."""
    assert 0 == shop("import", write("s.json", {"flags": {}}), "--environment", "staging").code
    assert 0 == shop("export", "--all", tmp_path / "flags").code
    return f"127.0.0.1:{serving(start('--json'))['grpc_port']}"


def _edit(tmp_path: Path, **fields: Any) -> None:
    """Change flag `payments` in the production file."""
    path = tmp_path / "flags/default/production.yaml"
    document = yaml.safe_load(path.read_text())
    document["flags"]["payments"].update(fields)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_what_was_exported_differs_in_nothing(run: Run, server: str, tmp_path: Path) -> None:
    """A fresh export is no drift."""
    ran = run("plan", tmp_path / "flags", "--server", server, "--check")

    assert (0, "nothing differs") == (ran.code, ran.out.splitlines()[-1]), ran.err


def test_a_plan_changes_nothing_and_an_apply_does_it(run: Run, server: str, tmp_path: Path) -> None:
    """The plan says what the apply then does; afterwards nothing differs."""
    _edit(tmp_path, enabled=False, owner="ops")
    planned = run("plan", tmp_path / "flags", "--server", server)
    checked = run("plan", tmp_path / "flags", "--server", server, "--check")
    tried = run("apply", tmp_path / "flags", "--server", server, "--yes", "--dry-run")
    unchanged = run("export").out
    done = run("apply", tmp_path / "flags", "--server", server, "--yes", "--reason", "from Git")
    again = run("plan", tmp_path / "flags", "--server", server, "--check")

    assert "default/production: would be at revision 2" in planned.out
    assert "default/staging: as the file says" in planned.out
    assert "1 of 2 environments differ" in planned.out
    assert (0, 1, 0, 0, 0) == (planned.code, checked.code, tried.code, done.code, again.code), done.err
    assert unchanged != run("export").out
    assert "default/production: is at revision 2" in done.out


def test_a_flag_that_no_file_has_is_removed(run: Run, server: str, tmp_path: Path) -> None:
    """The directory says all that there is."""
    path = tmp_path / "flags/default/production.yaml"
    document = yaml.safe_load(path.read_text())
    del document["flags"]["banner"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    done = run("apply", tmp_path / "flags", "--server", server, "--yes", "--json").json

    production, staging = done[0]["reply"]["environments"]
    assert (["banner"], []) == (production["removed"], staging["removed"])


def test_a_project_is_one_commit(run: Run, server: str, tmp_path: Path) -> None:
    """A variant that all files drop goes at once, though environments served it; the plan says just that."""
    for name in ("production", "staging"):
        path = tmp_path / f"flags/default/{name}.yaml"
        document = yaml.safe_load(path.read_text())
        served = {"variants": {"a": 1, "b": 2}, "default": "b"}
        document["flags"] = {**document.get("flags", {}), "size": served}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert 0 == run("apply", tmp_path / "flags", "--server", server, "--yes").code
    for name in ("production", "staging"):
        path = tmp_path / f"flags/default/{name}.yaml"
        document = yaml.safe_load(path.read_text())
        document["flags"]["size"] = {"variants": {"a": 1}, "default": "a"}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
    planned = run("plan", tmp_path / "flags", "--server", server)
    done = run("apply", tmp_path / "flags", "--server", server, "--yes")
    again = run("plan", tmp_path / "flags", "--server", server, "--check")

    assert (0, 0, 0) == (planned.code, done.code, again.code), (planned.err, done.err, again.out)
    assert "2 of 2 environments differ" in planned.out
    told = [line for line in done.out.partition("\n\n")[2].splitlines() if line.startswith("  ")]
    assert told == [line for line in planned.out.splitlines() if line.startswith("  ")]
    assert 2 == sum("default b -> a" in line for line in told)


def test_nobody_is_asked_in_a_pipeline(run: Run, server: str, tmp_path: Path) -> None:
    """Without a terminal and --yes nothing is applied."""
    _edit(tmp_path, enabled=False)
    ran = run("apply", tmp_path / "flags", "--server", server)

    assert 1 == ran.code
    assert "give --yes" in ran.err


def test_one_environment_can_be_chosen(run: Run, server: str, tmp_path: Path) -> None:
    """The others are not even looked at; a name without a file is a slip."""
    _edit(tmp_path, enabled=False)
    chosen = run("plan", tmp_path / "flags", "--server", server, "--only", "default/staging", "--check")
    slip = run("plan", tmp_path / "flags", "--server", server, "--only", "default/stagging")

    assert (0, 1) == (chosen.code, slip.code)
    assert "it has: default/production, default/staging" in slip.err


def test_problems_are_told_before_anything_is_sent(run: Run, server: str, tmp_path: Path) -> None:
    """With the file and the path."""
    _edit(tmp_path, default="of")
    ran = run("apply", tmp_path / "flags", "--server", server, "--yes")

    assert 1 == ran.code
    assert "default/production.yaml /flags/payments/default: variant 'of' does not exist" in ran.err
