"""A database of the first schema comes to today's with nothing lost, also when the migration is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, select

from server.store import tables
from server.store.audit import verify_chain
from server.store.engine import open_engine, reading
from server.store.flagsets import read_flag_set
from server.store.migrations import SchemaState, migrate, schema_state
from server.store.revisions import read_revision

FIRST: Final = Path(__file__).parent / "databases" / "first-schema.sql"
"""Four imports by the first version that landed: two projects, three environments, targets to prerequisites."""

KILLS: Final = 20
SETS: Final = (("default", "production"), ("default", "staging"), ("other", "qa"))


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Engine]:
    """The database as that version left it."""
    path = tmp_path / "flagstaff.db"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST.read_text(encoding="utf-8"))
    connection.close()
    engine = open_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def _content(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """All that the first schema had, by table; columns that came later are left out."""
    old = sqlite3.connect(":memory:")
    old.executescript(FIRST.read_text(encoding="utf-8"))
    names = [name for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {name: [row[1] for row in old.execute(f"PRAGMA table_info({name})")] for name in names}
    old.close()
    found: dict[str, list[dict[str, Any]]] = {}
    with reading(engine) as connection:
        for name in sorted(set(names) - {"alembic_version"}):
            listed = ", ".join(f'"{column}"' for column in columns[name])
            rows = connection.exec_driver_sql(f'SELECT {listed} FROM "{name}"').mappings()
            found[name] = sorted((dict(row) for row in rows), key=repr)
    return found


def _check_whole(engine: Engine) -> None:
    assert SchemaState.CURRENT is schema_state(engine)
    with reading(engine) as connection:
        for project, environment in SETS:
            assert read_flag_set(connection, project=project, environment=environment).flags
        assert [[], []] == [verify_chain(connection, project=project) for project in ("default", "other")]
        before = read_revision(connection, project="default", environment="production", key="payments", revision=1)
        now = read_revision(connection, project="default", environment="production", key="payments", revision=2)
        assert [True, False] == [(each.document or {}).get("enabled", True) for each in (before, now)]
        assert 18 == len(connection.execute(select(tables.outbox.c.id)).all())


def test_nothing_is_lost(first: Engine) -> None:
    """Every row of the first schema is there afterwards as it was, and means the same."""
    before = _content(first)
    migrate(first)

    assert before == _content(first)
    _check_whole(first)


def test_a_migration_that_is_killed_is_begun_anew(first: Engine, tmp_path: Path) -> None:
    """Killed half way again and again, it leaves the old schema whole; the next start finishes it."""
    before = _content(first)
    for _ in range(KILLS):
        killed = subprocess.run(
            [sys.executable, "-m", "server", "migrate", "--database-url", f"sqlite:///{tmp_path}/flagstaff.db"],
            env={**os.environ, "FLAGSTAFF_FAILPOINT": "migrate.half"},
            capture_output=True,
            check=False,
        )
        assert -signal.SIGKILL == killed.returncode, killed.stderr
        assert SchemaState.BEHIND is schema_state(first)
    assert before == _content(first)
    migrate(first)

    assert before == _content(first)
    _check_whole(first)
