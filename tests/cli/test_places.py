"""`flagstaff project`, `environment` and `segment`, through a server process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cli.conftest import Ran, Run
from tests.cli.servers import Start, serving, stopped

CONDITION: Final = '{"==": [{"var": "plan"}, "pro"]}'


@pytest.fixture
def ask(run: Run, start: Start) -> Iterator[Run]:
    """Run a command against a server of the test's own."""
    process = start("--json")
    server = f"127.0.0.1:{serving(process)['grpc_port']}"

    def asking(*arguments: str, **options: str) -> Ran:
        return run(*arguments, FLAGSTAFF_SERVER=server, **options)

    yield asking
    stopped(process)


def cells(ran: Ran) -> list[list[str]]:
    """The rows of a table that was printed."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in ran.out.splitlines()[2:-2]]


def test_a_project_from_its_creation_to_its_end(ask: Run) -> None:
    """With its default environments; deleted when it is named twice."""
    made = ask("project", "create", "shop", "--name", "The shop", "--reason", "A new team")
    again = ask("project", "create", "shop")
    listed = ask("project", "list")
    shown = ask("project", "show", "shop", "--json").json["project"]
    renamed = ask("project", "update", "shop", "--name", "Shop")
    unconfirmed = ask("project", "delete", "shop", "--confirm", "shopp")
    gone = ask("project", "delete", "shop", "--confirm", "shop")

    assert (0, True) == (made.code, "project shop created with development, production, staging" in made.out)
    assert (1, True) == (again.code, "project 'shop' exists already" in again.err)
    assert [["shop", "The shop", "development, production, staging"]] == cells(listed)
    assert ("shop", "The shop", 1) == (shown["key"], shown["name"], shown["version"])
    assert 'name "The shop" -> "Shop"' in renamed.out
    assert (1, 0) == (unconfirmed.code, gone.code)
    assert 1 == ask("project", "show", "shop").code


def test_an_environment_with_what_protects_it(ask: Run) -> None:
    """Settings, approvals, a freeze and its end."""
    ask("project", "create", "default", "--empty")
    ask("environment", "create", "live", "--name", "Live", "--metadata", "team=web")
    critical = ask("environment", "update", "live", "--critical")
    approvals = ask("environment", "approvals", "live", "--need", "2", "--by", "approve", "--of", "flag")
    freeze = ask("environment", "freeze", "live", "--until", "2999-01-01T00:00Z", "--because", "Holidays")
    stopped_by_it = ask("environment", "update", "live", "--not-critical")
    shown = ask("environment", "show", "live")
    listed = ask("environment", "list")
    ended = ask("environment", "thaw", "live", "--bypass-approval", "--reason", "The shop is down")

    assert [0, 0, 0] == [ran.code for ran in (critical, approvals, freeze)], freeze.err
    assert "approval policy nobody is asked -> 2 approvals of approve for every flag" in approvals.out
    assert (1, True) == (stopped_by_it.code, "is frozen until 2999-01-01 00:00 UTC: Holidays" in stopped_by_it.err)
    for text in ("metadata team", "critical, 2 approvals, frozen until 2999-01-01 00:00 UTC", "approvals of"):
        assert text in shown.out
    protection = "critical, 2 approvals, frozen until 2999-01-01 00:00 UTC"
    assert [["live", "Live", "0", "0", "4", protection]] == cells(listed)
    left = ask("environment", "show", "live", "--json").json["environment"]["settings"]["freezeWindows"]
    assert (0, []) == (ended.code, left)


@pytest.mark.parametrize(
    "arguments",
    [
        ("environment", "update", "live"),
        ("environment", "update", "live", "--bucketing", "v9"),
        ("environment", "update", "live", "--metadata", "team"),
        ("environment", "approvals", "live", "--need", "1", "--by", "chief"),
        ("environment", "freeze", "live", "--until", "tomorrow", "--because", "x"),
        ("segment", "update", "s"),
        ("segment", "create", "s", "--condition", "true", "--key", "a"),
        ("project", "update", "shop"),
    ],
)
def test_what_is_no_command_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    """Found before anything is sent."""
    ran = run(*arguments, "--server=127.0.0.1:1")

    assert (2, "") == (ran.code, ran.out)


def test_a_clone_and_its_end(ask: Run) -> None:
    """Everything is copied; what is deleted is served no more."""
    ask("project", "create", "default", "--with", "production")
    ask("segment", "create", "pro", "--condition", CONDITION)
    cloned = ask("environment", "clone", "production", "canary")
    found = ask("segment", "show", "pro", "--environment", "canary")
    moved = ask("environment", "update", "canary", "--bucketing", "v3", "--dry-run")
    gone = ask("environment", "delete", "canary", "--confirm", "canary")

    assert (0, True) == (cloned.code, "environment default/canary is a copy of production" in cloned.out)
    assert (0, True) == (found.code, '"plan"' in found.out)
    assert "would" in moved.out
    assert (0, 1) == (gone.code, ask("environment", "show", "canary").code)


def test_a_segment_of_a_condition(ask: Run) -> None:
    """Created, changed, refused while it is referred to, deleted."""
    ask("project", "create", "default", "--with", "production")
    made = ask("segment", "create", "pro", "--condition", CONDITION, "--description", "Paying")
    wrong = ask("segment", "create", "bad", "--condition", '{"ends_wiht": []}')
    outer = ask("segment", "create", "outer", "--condition", '{"$ref": "pro"}')
    circle = ask("segment", "update", "pro", "--condition", '{"$ref": "outer"}')
    used = ask("segment", "usage", "pro")
    refused = ask("segment", "delete", "pro")
    deleted = [ask("segment", "delete", key).code for key in ("outer", "pro")]

    assert [0, 0] == [made.code, outer.code]
    assert (1, True) == (wrong.code, "/segments/bad/condition: unknown operator 'ends_wiht'" in wrong.err)
    assert (1, True) == (circle.code, "segments go in a circle: outer -> pro -> outer" in circle.err)
    assert [["segment", "outer", "directly"]] == cells(used)
    assert (1, True) == (refused.code, "segment 'outer' would miss it" in refused.err)
    assert [0, 0] == deleted


def test_the_keys_of_a_segment(ask: Run, tmp_path: Path) -> None:
    """From a file or standard input, one a line, as many as there are; a large one is called so."""
    many = tmp_path / "keys.txt"
    many.write_bytes("\r\n".join(f"user-{number}" for number in range(12_000)).encode() + "\n\nzoë\n".encode())
    ask("project", "create", "default", "--with", "production")
    ask("segment", "create", "customers", "--attribute", "customerId")
    tried = ask("segment", "add-keys", "customers", str(many), "--dry-run")
    added = ask("segment", "add-keys", "customers", str(many), "--reason", "All of them")
    removed = ask("segment", "remove-keys", "customers", "-", text="user-7\nnobody\n")
    listed = ask("segment", "list", "--text", "CUST")
    keys = ask("segment", "keys", "customers")
    found = ask("segment", "find", "customers", "user-8", "zoë")
    missing = ask("segment", "find", "customers", "user-7", "user-8")
    absent = ask("segment", "add-keys", "customers", str(tmp_path / "none.txt"))

    assert "production is at revision" not in tried.out
    assert "12001 keys added, segment customers has 12001" in added.out
    assert "1 key removed, segment customers has 12000" in removed.out
    assert [["customers", "12000 keys by customerId, large", "4", "-"]] == cells(listed)
    assert {*(f"user-{number}" for number in range(12_000) if number != 7), "zoë"} == set(keys.out.splitlines())
    assert (0, 1) == (found.code, missing.code)
    assert [["user-7", "no"], ["user-8", "yes"]] == [row.split() for row in missing.out.splitlines()[2:]]
    assert (1, True) == (absent.code, "cannot read" in absent.err)
