"""The database is opened durably, and its errors are ours."""

import resource
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from server.core.changes import PutFlag
from server.core.errors import InvalidRequest, StoreCorrupt, StoreUnavailable
from server.store.engine import open_engine, reading, watching, writing
from tests.store.definitions import ON_SQLITE, another, at, flag, put, stored


@ON_SQLITE
@pytest.mark.parametrize(
    ("pragma", "expected"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)]
)
def test_a_connection_is_durable(empty: Engine, pragma: str, expected: object) -> None:
    """WAL with full sync, foreign keys held, and patience with other writers."""
    with reading(empty) as connection:
        assert expected == connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://ann:secret@db/flags",
        "postgresql+psycopg://ann:secret@db",
        "mysql+pymysql://ann:secret@db/flags",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "ann:secret@db",
    ],
)
def test_other_databases_are_refused(url: str) -> None:
    """What cannot keep commits safely is refused, and no password is shown."""
    with pytest.raises(InvalidRequest, match=r"expected (sqlite|postgresql)") as refused:
        open_engine(url)

    assert "secret" not in str(refused.value)


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    """A path that cannot be opened names the path and what to check."""
    with (
        pytest.raises(StoreUnavailable, match=r"cannot open .*/none/x.db.*check that its directory exists"),
        reading(open_engine(f"sqlite:///{tmp_path}/none/x.db")),
    ):
        pass


def test_a_foreign_file_is_corrupt(tmp_path: Path) -> None:
    """A file that is no database is never written to."""
    (tmp_path / "x.db").write_bytes(b"not a database " * 100)

    with (
        pytest.raises(StoreCorrupt, match="not an SQLite database"),
        reading(open_engine(f"sqlite:///{tmp_path}/x.db")),
    ):
        pass
    assert b"not a database " * 100 == (tmp_path / "x.db").read_bytes()


@ON_SQLITE
def test_damaged_pages_are_corrupt(shop: Engine) -> None:
    """Bytes that were overwritten are noticed and not served."""
    put(shop, *(PutFlag(flag(f"f{number}", description="x" * 500)) for number in range(50)))
    path = Path(shop.url.database or "")
    with writing(shop) as connection:
        pass
    with shop.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shop.dispose()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(StoreCorrupt, match="damaged content in"):
        stored(shop)


@ON_SQLITE
def test_a_full_disk_writes_nothing(shop: Engine) -> None:
    """No room: the commit is refused whole, reading goes on, and later commits work without a restart."""
    put(shop, PutFlag(flag()))
    with writing(shop) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite takes the size that it has.

    with pytest.raises(StoreUnavailable, match="there is no room for"):
        put(shop, *(PutFlag(flag(f"f{number}", description="x" * 3000)) for number in range(200)))
    assert (2, ["checkout"]) == (at(shop).revision, list(stored(shop).flags))
    shop.dispose()
    assert 3 == put(shop, PutFlag(flag("later"))).revision


@ON_SQLITE
def test_a_failing_disk_writes_nothing(shop: Engine) -> None:
    """A write that the system refuses is an outage; when it is over, the next commit works."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreUnavailable):
            put(shop, PutFlag(flag("lost", description="x" * 4000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert {} == stored(shop).flags
    assert 2 == put(shop, PutFlag(flag("later"))).revision


@ON_SQLITE
def test_a_patient_writer_gives_up(shop: Engine) -> None:
    """A writer that waits too long says that another one holds the database."""
    other = sqlite3.connect(shop.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = open_engine(str(shop.url))
    with impatient.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")

    with pytest.raises(StoreUnavailable, match="another writer holds"):
        put(impatient, PutFlag(flag()))
    assert {} == stored(shop).flags
    other.close()
    impatient.dispose()


def test_a_failed_block_writes_nothing(shop: Engine) -> None:
    """An error inside a transaction takes everything back."""
    with pytest.raises(RuntimeError, match="stop"), writing(shop) as connection:
        connection.execute(text("UPDATE environment SET revision = 99"))
        raise RuntimeError("stop")

    assert 1 == at(shop).revision


def test_who_watches_is_told_of_others(shop: Engine) -> None:
    """The version stays while nothing happens, and is another one when somebody has committed."""
    other = another(shop)
    with watching(shop) as watch:
        before = watch.version()
        stored(other)
        unchanged = watch.version()
        put(other, PutFlag(flag()))

        assert before == unchanged
        assert before != watch.version()
    other.dispose()


def test_half_a_character_is_refused(shop: Engine) -> None:
    """Text that is not Unicode is an argument's fault, not the database's."""
    with pytest.raises(InvalidRequest, match="surrogate"):
        put(shop, PutFlag(flag()), reason="\ud800")


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET actor = 'eve'", "DELETE FROM audit_entry",
                                       "UPDATE revision SET document = NULL", "DELETE FROM revision"])  # fmt: skip
def test_history_cannot_be_changed(shop: Engine, statement: str) -> None:
    """The database itself refuses to change audit entries and revisions."""
    with pytest.raises(StoreCorrupt, match="are never changed or deleted"), writing(shop) as connection:
        connection.execute(text(statement))


@ON_SQLITE
def test_a_file_that_is_gone_is_not_made_anew(shop: Engine) -> None:
    """Whoever looks for it or writes to it is told; an empty one in its place would be served as if it were it."""
    shop.dispose()
    path = Path(shop.url.database or "")
    path.unlink()
    with pytest.raises(StoreUnavailable, match="cannot open"), reading(shop):
        pass
    with pytest.raises(StoreUnavailable, match="cannot open"), writing(shop):
        pass

    assert not path.exists()
