"""Every command works on PostgreSQL as it does on a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests import postgres
from tests.cli.conftest import Ran, Run, Write
from tests.store.definitions import new_url

FLAG = {"variants": {"on": True, "off": False}, "default": "off", "targets": {"on": ["ann"]}}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    with new_url(tmp_path, "postgresql") as address:
        yield address


@pytest.fixture
def ours(run: Run, url: str) -> Run:
    """Run a command over that database."""

    def call(*arguments: str | Path, **options: Any) -> Ran:
        return run(*arguments, FLAGSTAFF_DATABASE_URL=url, **options)

    return call


def test_a_database_is_made_once(ours: Run) -> None:
    """An empty one is absent to us; the second time there is nothing to do."""
    before = ours("migrate", "--status", "--json")
    first, second, status = ours("migrate", "--json"), ours("migrate", "--json"), ours("migrate", "--status")

    assert (1, {"state": "absent"}) == (before.code, before.json)
    assert first.json["applied"]
    assert ([], 0) == (second.json["applied"], status.code)


def test_flags_go_in_and_come_out(ours: Run, write: Write) -> None:
    """Imported, listed, evaluated, exported; and what is read makes no tables."""
    absent = ours("flags")
    imported = ours("import", write("flags.json", {"flags": {"checkout": FLAG}}))
    listed = ours("flags", "--json")
    answer = ours("evaluate", "checkout", "--targeting-key", "ann", "--json")
    exported = ours("export")

    assert (3, True) == (absent.code, "does not exist" in absent.err)
    assert (0, 0, 0) == (imported.code, listed.code, exported.code), imported.err
    assert ("on", True) == (answer.json["variant"], answer.json["value"])
    assert "checkout" in exported.json["flags"]


def test_a_password_is_in_no_output(ours: Run, url: str) -> None:
    """Not when all is well, and not when the server cannot be reached."""
    password = make_url(url).password or "?"
    away = postgres.text_of(make_url(url).set(port=1))
    told = [ours("migrate"), ours("flags"), ours("flags", "--database-url", away)]

    assert 3 == told[-1].code
    assert not any(password in ran.out + ran.err for ran in told)
