"""Of the processes that share a directory of last good flags, one at a time writes it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.core.changes import PutFlag
from server.core.environments import Environment
from server.core.errors import LeaseLost
from server.live.follower import Follower, keeper_of
from server.live.holder import Holder
from server.live.last_known_good import LastKnownGood
from server.store.engine import open_engine, reading
from server.store.flagsets import stream_documents
from server.store.leases import acquire, release
from tests.live.test_follower import Database, boolean, eventually, following

PRODUCTION = Environment("shop", "production")
MORE_THAN_ONE_ROUND_S = 0.3


def kept_revision(directory: Path) -> int:
    """The revision in the file; 0 when there is none. Making the environment was revision 1."""
    head = LastKnownGood(directory).head(PRODUCTION)
    return 0 if head is None else head[0]


def test_who_has_no_lease_writes_nothing(tmp_path: Path) -> None:
    """Until the one who has it gives it back; then what was noticed meanwhile is kept."""
    database, kept = Database(tmp_path), tmp_path / "kept"
    lease = acquire(database.engine, keeper_of(LastKnownGood(kept)), holder="another", ttl_s=60.0)
    assert lease is not None
    database.put(PutFlag(boolean("a")))
    with following(database.engine, kept) as holder:
        eventually(lambda: holder.ready)
        time.sleep(MORE_THAN_ONE_ROUND_S)
        before = kept_revision(kept)
        release(database.engine, lease)

        eventually(lambda: kept_revision(kept) == 2)
        assert 0 == before


def test_what_another_process_kept_is_not_written_again(tmp_path: Path) -> None:
    """Three follow; each change is written once, which a file's new inode shows."""
    database, kept = Database(tmp_path), tmp_path / "kept"
    written: set[tuple[int, int]] = set()

    def note() -> int:
        revision = kept_revision(kept)
        if revision:
            written.add((revision, (kept / "shop@production.jsonl").stat().st_ino))
        return revision

    engines = [open_engine(database.url) for _ in range(3)]
    with (
        following(engines[0], kept) as first,
        following(engines[1], kept) as second,
        following(engines[2], kept) as third,
    ):
        eventually(lambda: first.ready and second.ready and third.ready)
        time.sleep(MORE_THAN_ONE_ROUND_S)
        for revision in (2, 3, 4):
            database.put(PutFlag(boolean(f"flag-{revision}")))
            eventually(lambda expected=revision: note() == expected)  # type: ignore[misc]
            time.sleep(MORE_THAN_ONE_ROUND_S)
            note()

    assert [2, 3, 4] == sorted(revision for revision, _ in written if revision > 1)
    assert ["identity", "shop@production.jsonl"] == sorted(path.name for path in kept.iterdir())


class LooksEarly(LastKnownGood):
    """Sees nothing at its first look: another process wrote right after it."""

    looks = 0

    def head(self, environment: Environment) -> tuple[int, datetime] | None:
        """What is kept, but for the first time."""
        self.looks += 1
        return None if self.looks == 1 else super().head(environment)


def test_what_was_kept_before_our_turn_is_not_written_again(tmp_path: Path) -> None:
    """Between a look at the file and the lease another process may have written; it is looked at again."""
    database, kept = Database(tmp_path), LooksEarly(tmp_path / "kept")
    database.put(PutFlag(boolean("a")))
    with reading(database.engine) as connection:
        stored = stream_documents(connection, project="shop", environment="production")
        kept.write(stored, now=datetime(9000, 1, 1, tzinfo=UTC))
    path = kept.directory / "shop@production.jsonl"
    before = path.stat().st_ino
    follower = Follower(database.engine, Holder("shop/production"), last_known_good=kept, keep_after_s=0.05)
    follower.start()
    eventually(lambda: kept.looks >= 2)
    follower.stop()

    assert before == path.stat().st_ino


def test_who_was_overtaken_publishes_nothing(tmp_path: Path) -> None:
    """The file of its successor stays, and what it left unfinished goes with the next write."""
    database, kept = Database(tmp_path), LastKnownGood(tmp_path / "kept")
    database.put(PutFlag(boolean("a")))

    @contextmanager
    def overtaken() -> Iterator[None]:
        raise LeaseLost("another process does it now")
        yield

    with reading(database.engine) as connection:
        stored = stream_documents(connection, project="shop", environment="production")
        with pytest.raises(LeaseLost):
            kept.write(stored, now=datetime.now(UTC), fenced=overtaken)
    left = [path.suffix for path in kept.directory.iterdir()]
    with reading(database.engine) as connection:
        kept.write(stream_documents(connection, project="shop", environment="production"), now=datetime.now(UTC))

    assert [".new"] == left
    assert ["shop@production.jsonl"] == [path.name for path in kept.directory.iterdir()]
