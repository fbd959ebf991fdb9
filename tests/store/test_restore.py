"""A backup holds everything of one instant; a restore brings it back whole, and nobody backwards."""

import gzip
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import Connection, DateTime, Engine, MetaData, Table, func, select

from server.core.changes import PutFlag, PutSegment, RemoveFlag
from server.core.errors import FlagstaffError, InvalidRequest, Refused, StoreCorrupt
from server.operations.backups import back_up
from server.store import tables
from server.store.audit import list_entries, verify_chain
from server.store.backup import write_backup
from server.store.engine import open_engine, reading
from server.store.environments import list_environments
from server.store.restore import EVENT, Restored, restore
from server.store.tables import Base
from tests.announced import check_announced
from tests.store.definitions import (
    behind_our_back,
    database,
    flag,
    new_engine,
    new_shop,
    put,
    segment,
    stored,
    unlock_history,
)
from tests.store.test_upgrade import FIRST

LATER: Final = datetime(2026, 6, 1, tzinfo=UTC)
EPOCH: Final = int(LATER.timestamp())
LEAPING: Final = frozenset({"project", "environment", "revision", "audit_entry", "outbox", "lease"})
"""Tables that a restore adds to."""


REFUSED: Final = (sqlite3.IntegrityError, psycopg.errors.RaiseException)


@pytest.fixture
def target(tmp_path: Path, kind: str) -> Iterator[Engine]:
    """An empty database beside the shop."""
    (tmp_path / "target").mkdir()
    with database(tmp_path / "target", kind, shop=False) as engine:
        yield engine


def _fill(engine: Engine) -> None:
    rule = {"condition": {"$ref": "beta"}, "serve": "on"}
    put(engine, PutSegment(segment("beta", True)), PutFlag(flag(rules=[rule])), request_id="r1")
    put(engine, PutFlag(flag("other", variants={"on": "grüße\n\u2028", "off": ""})), reason="Ω")
    put(engine, RemoveFlag("other"))


def _backup(engine: Engine) -> bytes:
    stream = io.BytesIO()
    with reading(engine) as connection:
        write_backup(connection, stream, now=LATER)
    return stream.getvalue()


def _restore(engine: Engine, backup: bytes, **options: Any) -> Restored:
    return restore(engine, io.BytesIO(backup), actor="ann", now=LATER, **options)


def _rows(engine: Engine, *, without: frozenset[str] = frozenset()) -> dict[str, list[Any]]:
    with reading(engine) as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
            if table.name not in without
        }


def test_everything_comes_back(shop: Engine, target: Engine) -> None:
    """Every row of every table is there; only the restore itself was added."""
    _fill(shop)
    restored = _restore(target, _backup(shop))

    assert _rows(shop, without=LEAPING) == _rows(target, without=LEAPING)
    assert (stored(shop).flags, stored(shop).segments) == (stored(target).flags, stored(target).segments)
    for table in ("revision", "audit_entry", "outbox"):
        assert set(_rows(shop)[table]) <= set(_rows(target)[table])
    check_announced(target)
    with reading(target) as connection:
        assert [] == verify_chain(connection, project="shop")
        newest = list_entries(connection, project="shop", limit=2)
    assert {(EVENT, "ann")} == {(entry.action, entry.actor) for entry in newest}
    assert {"shop/production": EPOCH, "shop/staging": EPOCH} == restored.revisions


def test_revisions_leap_over_all_that_clients_have_seen(shop: Engine, target: Engine) -> None:
    """Also over those of the database that is replaced, were they higher than the clock."""
    backup = _backup(shop)
    _restore(target, backup)
    put(target, PutFlag(flag()))
    before = {each.environment.key: each.revision for each in _environments(target)}
    restored = _restore(target, backup, replace=True)

    assert {"production": EPOCH + 1, "staging": EPOCH} == before
    assert {"shop/production": EPOCH + 2, "shop/staging": EPOCH + 1} == restored.revisions
    assert {} == stored(target).flags
    with reading(target) as connection:
        sequence = connection.execute(select(tables.projects.c.event_sequence)).scalar_one()
        last = connection.execute(select(func.max(tables.outbox.c.sequence))).scalar_one()
    assert sequence == last > EPOCH + 2


def _environments(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list_environments(connection)


def test_a_commit_follows_a_restore(shop: Engine, target: Engine) -> None:
    """The rule that history is never changed holds again, and the next commit counts on."""
    _restore(target, _backup(shop))
    committed = put(target, PutFlag(flag()))

    assert EPOCH + 1 == committed.revision
    with behind_our_back(target) as connection, pytest.raises(REFUSED, match="never changed"):
        connection.execute("DELETE FROM revision")


def test_a_backup_moves_to_another_kind_of_database(tmp_path: Path, target: Engine) -> None:
    """What a file held goes into PostgreSQL, and into a file again."""
    engine = new_shop(tmp_path)
    _fill(engine)
    _restore(target, _backup(engine))
    again = _restore(engine, _backup(target), replace=True)
    there, here = stored(target), stored(engine)
    engine.dispose()

    assert (there.flags, there.segments) == (here.flags, here.segments)
    assert {"shop/production", "shop/staging"} == set(again.revisions)


def test_a_database_with_content_is_not_replaced_unasked(shop: Engine) -> None:
    """What is there stays, unless its owner says otherwise."""
    _fill(shop)
    before = _rows(shop)
    with pytest.raises(Refused, match="2 environments of 1 projects already"):
        _restore(shop, _backup(shop))

    assert before == _rows(shop)


def test_what_the_backup_does_not_have_is_told(shop: Engine, tmp_path: Path) -> None:
    """Flag sets that a restore takes away are named."""
    other = tmp_path / "other"
    other.mkdir()
    engine = new_engine(other)
    restored = _restore(shop, _backup(engine), replace=True)
    engine.dispose()

    assert (("shop/production", "shop/staging"), {}) == (restored.gone, restored.revisions)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_backup_is_refused(shop: Engine, target: Engine, part: float) -> None:
    """Wherever it was cut, nothing is restored."""
    backup = _backup(shop)
    with pytest.raises(InvalidRequest, match="not whole"):
        _restore(target, backup[: int(len(backup) * part)])

    assert [] == _environments(target)


def test_every_altered_line_is_noticed(shop: Engine, target: Engine) -> None:
    """A line that was changed, left out or doubled is noticed before anything is done."""
    lines = gzip.decompress(_backup(shop)).splitlines(keepends=True)
    for place in range(1, len(lines) - 1):
        for changed in (b"", lines[place] * 2, lines[place].replace(b"shop", b"shap")):
            if changed != lines[place]:
                altered = b"".join([*lines[:place], changed, *lines[place + 1 :]])
                with pytest.raises(InvalidRequest, match="not whole"):
                    _restore(target, gzip.compress(altered))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", gzip.compress(b"hello\n"), gzip.compress(b'{"a": 1}\n')],
    ids=["empty", "text", "packed text", "packed JSON"],
)
def test_another_file_is_no_backup(target: Engine, content: bytes) -> None:
    """Any other file is refused with words that say so."""
    with pytest.raises(InvalidRequest, match=r"not a backup|not whole"):
        _restore(target, content)


def test_a_backup_of_a_later_version_is_refused(target: Engine) -> None:
    """What a later schema means cannot be known."""
    with pytest.raises(InvalidRequest, match="schema 9999, which this version does not know"):
        _restore(target, _written("9999", ()))


def test_a_backup_with_a_broken_trail_is_refused(shop: Engine, target: Engine) -> None:
    """Somebody who edits history cannot have it confirmed by a restore; who knows about it may go on."""
    _fill(shop)
    with behind_our_back(shop) as connection:
        unlock_history(shop, connection)
        connection.execute("UPDATE audit_entry SET actor = 'eve' WHERE sequence = 2")
    with pytest.raises(StoreCorrupt, match="shop: entry 2 was changed"):
        _restore(target, _backup(shop))

    assert _restore(target, _backup(shop), accept_broken_trail=True).row_count


def test_an_old_backup_is_brought_up_to_date(tmp_path: Path, target: Engine) -> None:
    """A backup that an earlier version made is migrated on its way."""
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(FIRST.read_text(encoding="utf-8"))
    old.close()
    engine = open_engine(f"sqlite:///{tmp_path}/old.db")
    restored = _restore(target, _old_backup(engine))
    engine.dispose()

    assert ["default/production", "default/staging", "other/qa"] == sorted(restored.revisions)
    with reading(target) as connection:
        assert [] == verify_chain(connection, project="default")


def _old_backup(engine: Engine) -> bytes:
    """As the version of that schema would have written it: its tables and columns, and no others."""
    metadata = MetaData()
    with reading(engine) as connection:
        metadata.reflect(connection)
        return _written("0001", chain.from_iterable(_lines(connection, each) for each in metadata.sorted_tables))


def _lines(connection: Connection, table: Table) -> Iterator[Any]:
    if table.name == "alembic_version":
        return
    kinds = ["instant" if isinstance(column.type, DateTime) else "json" for column in table.columns]
    yield {
        "table": table.name,
        "columns": [[column.name, kind] for column, kind in zip(table.columns, kinds, strict=True)],
    }
    for row in connection.execute(select(table)):
        yield [value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value for value in row]


def _written(schema: str, lines: Iterable[Any]) -> bytes:
    """A backup with these lines."""
    header = {"flagstaff-backup": 1, "schema": schema, "createdAt": "2026-01-01T00:00:00+00:00"}
    content = list(chain([header], lines))
    body = b"".join(json.dumps(line).encode() + b"\n" for line in content)
    count = sum(isinstance(line, list) for line in content)
    end = {"end": True, "rows": count, "sha256": hashlib.sha256(body).hexdigest()}
    return gzip.compress(body + json.dumps(end).encode() + b"\n")


def test_a_restore_that_is_killed_changed_nothing(tmp_path: Path) -> None:
    """Killed in the middle of the transaction, the database has what it had."""
    engine = new_shop(tmp_path)
    _fill(engine)
    back_up(engine, tmp_path / "shop.backup", now=LATER)
    put(engine, PutFlag(flag("later")))
    before = _rows(engine)
    command = [sys.executable, "-m", "server", "restore", str(tmp_path / "shop.backup"), "--replace"]
    killed = subprocess.run(
        [*command, "--database-url", f"sqlite:///{tmp_path}/flagstaff.db"],
        env={**os.environ, "FLAGSTAFF_FAILPOINT": "restore.copied"},
        capture_output=True,
        check=False,
    )

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    assert before == _rows(engine)
    engine.dispose()


def test_a_backup_file_appears_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    """It names who is targeted; a failed one leaves nothing behind."""
    engine = new_shop(tmp_path)
    path = tmp_path / "shop.backup"
    count = back_up(engine, path, now=LATER)
    with pytest.raises(FlagstaffError, match="cannot write"):
        back_up(engine, tmp_path / "none" / "shop.backup", now=LATER)
    with behind_our_back(engine) as connection:
        connection.execute("UPDATE project SET created_at = 'yesterday'")
    with pytest.raises(StoreCorrupt, match="a row of table project"):
        back_up(engine, tmp_path / "second.backup", now=LATER)
    engine.dispose()

    assert (0o600, True) == (path.stat().st_mode & 0o777, count > 3)
    assert ["flagstaff.db", "shop.backup"] == sorted(each.name for each in tmp_path.iterdir() if "-" not in each.name)
