"""The command `flagstaff migrate`."""

import sqlite3
from pathlib import Path

from tests.cli.conftest import Run


def test_status_makes_nothing(run: Run, tmp_path: Path) -> None:
    """It tells that there is no database, with exit code 1."""
    ran = run("migrate", "--status", "--json")

    assert (1, {"state": "absent"}) == (ran.code, ran.json)
    assert [] == list(tmp_path.iterdir())


def test_a_database_is_made_once(run: Run) -> None:
    """The second time there is nothing to do, and the status is fine."""
    first, second, status = run("migrate", "--json"), run("migrate", "--json"), run("migrate", "--status")

    assert first.json["applied"]
    assert ([], 0) == (second.json["applied"], status.code)


def test_a_foreign_database_is_left_alone(run: Run, tmp_path: Path) -> None:
    """It has tables but not ours: exit code 3, and nothing is written."""
    with sqlite3.connect(tmp_path / "flags.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    ran = run("migrate")

    assert 3 == ran.code
    assert "was not made by Flagstaff" in ran.err


def test_a_file_that_is_no_database_is_told(run: Run, tmp_path: Path) -> None:
    """By every command that opens it."""
    (tmp_path / "flags.db").write_text("This is a diary, and no database at all." * 40)
    codes = [run(*arguments).code for arguments in (("migrate",), ("flags",), ("evaluate", "x"), ("export",))]

    assert [3, 3, 3, 3] == codes


def test_a_place_that_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    """As a database that cannot be reached: the directory is not there."""
    ran = run("migrate", "--database-url", f"sqlite:///{tmp_path / 'nowhere' / 'flags.db'}")

    assert 3 == ran.code
    assert "check that its directory exists" in ran.err


def test_an_address_that_is_none_is_refused(run: Run) -> None:
    """As wrong input, not as a database that is away."""
    assert 1 == run("migrate", "--database-url", "mysql://localhost/flags").code
