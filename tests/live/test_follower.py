"""Following a real database file: commits arrive, only what they touched is compiled again, absence is outlived."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    DeleteEnvironment,
    PutFlag,
    PutSegment,
    RemoveFlag,
    UpdateEnvironment,
)
from server.core.environments import Bucketing, Environment
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, Rule, Split, ValueType
from server.core.keylists import key_list
from server.core.resolution import Reason
from server.core.segments import Segment
from server.core.selectors import Selector
from server.live.follower import Follower
from server.live.holder import Holder
from server.live.last_known_good import LastKnownGood
from server.store.commit import commit
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.store.definitions import KINDS, behind_our_back, new_url

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PATIENCE_S = 10.0


def boolean(key: str, **config: Any) -> FlagDefinition:
    """A boolean flag that is on unless its configuration says otherwise."""
    return FlagDefinition(
        Flag(key, ValueType.BOOLEAN, {"on": True, "off": False}), FlagConfig(**{"default": "on", **config})
    )


class Database:
    """A database with one environment: a file in a directory, or what an address names."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.path = directory / "flags.db"
        self.url = url or f"sqlite:///{self.path}"
        self.engine = open_engine(self.url)
        migrate(self.engine)
        self.put(CreateProject("shop"), CreateEnvironment(Environment("shop", "production")))

    def put(self, *changes: Change) -> None:
        """Commit some changes."""
        commit(self.engine, project="shop", environment="production", changes=changes, actor="test", now=NOW)

    def vandalise(self, statement: str, *values: object) -> None:
        """Write past the door."""
        with behind_our_back(self.engine) as connection:
            connection.execute(statement, values)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of every kind."""
    if request.param == "sqlite":
        yield Database(tmp_path)
        return
    with new_url(tmp_path, request.param) as url:
        found = Database(tmp_path, url)
        yield found
        found.engine.dispose()


@contextmanager
def following(engine: Engine, kept: Path | None = None) -> Iterator[Holder]:
    """A holder that follows a database for as long as the block runs."""
    holder = Holder("shop/production")
    good = None if kept is None else LastKnownGood(kept)
    follower = Follower(engine, holder, last_known_good=good, retry_s=0.05, keep_after_s=0.05)
    follower.start()
    try:
        yield holder
    finally:
        follower.stop()
        engine.dispose()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.005)


def variant(holder: Holder, key: str, context: dict[str, Any] | None = None) -> str | None:
    """What a flag serves now."""
    return holder.find("").resolve(key, context or {}, 0).variant


def test_commit_of_another_connection_arrives(database: Database) -> None:
    """What is committed elsewhere is evaluated here soon after."""
    database.put(PutFlag(boolean("a")))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready and variant(holder, "a") == "on")
        database.put(PutFlag(boolean("a", default="off")), PutFlag(boolean("b")))

        eventually(lambda: variant(holder, "a") == "off" and variant(holder, "b") == "on")


def test_only_what_was_touched_is_compiled_again(database: Database) -> None:
    """Untouched flags are the same objects afterwards; dependents of a touched one are not."""
    dependent = boolean("dependent", off_variant="off", prerequisites=(Prerequisite("needed", ("on",)),))
    database.put(PutFlag(boolean("needed")), PutFlag(dependent), PutFlag(boolean("alone")))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        before = holder.find("").flags
        database.put(PutFlag(boolean("needed", default="off")))
        eventually(lambda: variant(holder, "needed") == "off")

        assert before["alone"] is holder.find("").flags["alone"]
        assert "off" == variant(holder, "dependent")


def test_segment_reaches_the_flags_that_use_it(database: Database) -> None:
    """Through another segment too."""
    rule = Rule("r", "on", condition={"$ref": "outer"})
    outer = Segment("outer", condition={"$ref": "inner"})
    database.put(PutSegment(Segment("inner", keys=("ann",))), PutSegment(outer))
    database.put(PutFlag(boolean("a", default="off", rules=(rule,))))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready and variant(holder, "a", {"targetingKey": "ann"}) == "on")
        database.put(PutSegment(Segment("inner", keys=("bob",))))

        eventually(lambda: variant(holder, "a", {"targetingKey": "ann"}) == "off")
        assert "on" == variant(holder, "a", {"targetingKey": "bob"})


def test_removed_flag_is_gone(database: Database) -> None:
    """And the others stay."""
    database.put(PutFlag(boolean("a")), PutFlag(boolean("b")))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        database.put(RemoveFlag("a"))

        eventually(lambda: "a" not in holder.find("").flags)
        assert "on" == variant(holder, "b")


def test_bucketing_switch_recompiles_everything(database: Database) -> None:
    """The same unit lands elsewhere under the other scheme."""
    split = Split((("on", 1), ("off", 1)), salt="s")
    database.put(PutFlag(boolean("a", default=split)))
    units = [{"targetingKey": f"user-{number}"} for number in range(64)]
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        before = [variant(holder, "a", unit) for unit in units]
        database.put(UpdateEnvironment(bucketing=Bucketing.V3))

        eventually(lambda: [variant(holder, "a", unit) for unit in units] != before)
        assert Bucketing.V3 is holder.find("").environment.bucketing


def test_broken_row_is_quarantined_and_the_rest_serves(database: Database) -> None:
    """A row that was written behind our back answers ERROR; no other answer changes."""
    database.put(PutFlag(boolean("good")), PutFlag(boolean("bad")), PutFlag(boolean("worse")))
    database.vandalise("UPDATE flag_config SET document = ? WHERE key = 'bad'", json.dumps({"default": "gone"}))
    database.vandalise("UPDATE flag_config SET document = ? WHERE key = 'worse'", "{not json")
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        bad, worse = (holder.find("").resolve(key, {}, 0) for key in ("bad", "worse"))

        assert "on" == variant(holder, "good")
        assert (Reason.ERROR, Reason.ERROR) == (bad.reason, worse.reason)
        assert "'gone'" in bad.error_message


def test_a_reference_to_what_nothing_can_be_called_stops_nobody(database: Database) -> None:
    """Half of a surrogate pair cannot even be asked for; commits of other flags arrive all the same."""
    database.put(PutFlag(boolean("good")), PutFlag(boolean("bad")))
    rule = {"condition": {"$ref": "\ud800"}, "serve": "on"}
    circle = {"flag": "bad", "variants": ["gone"]}
    document = json.dumps({"default": "off", "prerequisites": [circle], "rules": [rule]})
    database.vandalise("UPDATE flag_config SET document = ? WHERE key = 'bad'", document)
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready and variant(holder, "bad") is None)
        database.put(PutFlag(boolean("good", default="off")))

        eventually(lambda: variant(holder, "good") == "off")


def test_quarantine_ends_with_a_good_commit(database: Database) -> None:
    """The next commit of the flag heals it."""
    database.put(PutFlag(boolean("bad")))
    database.vandalise('UPDATE flag_config SET document = \'{"default":"gone"}\'')
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready and variant(holder, "bad") is None)
        database.put(PutFlag(boolean("bad", default="off")))

        eventually(lambda: variant(holder, "bad") == "off")


def test_serves_on_when_the_database_goes_away(tmp_path: Path) -> None:
    """Evaluation goes on, marked stale, and catches up when the database is back."""
    database = Database(tmp_path)
    database.put(PutFlag(boolean("a")))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        database.engine.dispose()
        away = tmp_path / "away.db"
        database.path.rename(away)
        eventually(lambda: holder.serving.stale_since is not None)
        assert "on" == variant(holder, "a")
        assert not database.path.exists()

        away.rename(database.path)
        eventually(lambda: holder.serving.stale_since is None)
        assert "on" == variant(holder, "a")


def test_a_newer_program_was_here(tmp_path: Path) -> None:
    """During a rolling upgrade: one of the old version that connects anew serves on, and says what is the matter."""
    database = Database(tmp_path)
    database.put(PutFlag(boolean("a")))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        database.engine.dispose()
        with closing(sqlite3.connect(database.path)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.commit()
        assert holder.serving.stale_since is None
        away = tmp_path / "away.db"
        database.path.rename(away)
        eventually(lambda: holder.serving.stale_since is not None)
        since = holder.serving.stale_since
        assert "the database" in holder.serving.stale_because
        assert str(tmp_path) not in holder.serving.stale_because
        away.rename(database.path)
        eventually(lambda: "was made by a newer Flagstaff" in holder.serving.stale_because)

        assert (since, "on") == (holder.serving.stale_since, variant(holder, "a"))


def test_damaged_database_leaves_what_was_loaded(tmp_path: Path) -> None:
    """A file that is no database any more is reported, not served, and not repaired by guessing."""
    database = Database(tmp_path)
    database.put(PutFlag(boolean("a")))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        rubbish = tmp_path / "rubbish.db"
        rubbish.write_bytes(b"not a database" * 500)
        database.engine.dispose()
        rubbish.replace(database.path)
        eventually(lambda: holder.serving.stale_since is not None)

        assert "on" == variant(holder, "a")
        assert database.path.read_bytes().startswith(b"not a database")


def test_starts_from_the_last_known_good_files(tmp_path: Path) -> None:
    """With the database gone at the start, what was kept serves; and the file is not created anew."""
    database = Database(tmp_path)
    database.put(PutFlag(boolean("a")))
    kept = tmp_path / "kept"
    with following(open_engine(database.url), kept):
        eventually((kept / "shop@production.jsonl").exists)
    database.engine.dispose()
    for path in tmp_path.glob("flags.db*"):
        path.unlink()
    with following(open_engine(database.url), kept) as holder:
        eventually(lambda: holder.ready)

        assert "on" == variant(holder, "a")
        assert holder.serving.stale_since is not None
        assert not database.path.exists()


def test_damaged_last_known_good_file_is_not_served(database: Database, tmp_path: Path) -> None:
    """A cut file has no valid checksum: better no answer than half of them."""
    database.put(PutFlag(boolean("a")))
    kept = tmp_path / "kept"
    with following(open_engine(database.url), kept):
        eventually((kept / "shop@production.jsonl").exists)
    file = kept / "shop@production.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-2] + lines[-1:]))
    found, problems = LastKnownGood(kept).read()

    assert [] == found
    assert problems[0].endswith("its checksum does not fit; the file was cut or edited")


def test_flag_sets_are_found_by_their_imported_names(database: Database) -> None:
    """`source=` and a declared `flagSetId` select the set that an import gave them to."""
    database.put(UpdateEnvironment(source="flags/all.json", metadata={"flagSetId": "legacy"}))
    with following(open_engine(database.url)) as holder:
        eventually(lambda: holder.ready)
        found = [
            holder.select(Selector(*pair)).flag_set
            for pair in (("source", "flags/all.json"), ("flagSetId", "legacy"), ("flagSetId", "shop/production"))
        ]

        assert ["shop/production"] * 3 == found


def test_a_deleted_environment_is_served_no_more(tmp_path: Path) -> None:
    """Neither from memory nor from its file; one of the same key is a new one, at a higher revision."""
    database = Database(tmp_path)
    database.put(PutFlag(boolean("a")))
    kept = tmp_path / "kept"
    with following(database.engine, kept) as holder:
        eventually(lambda: "shop/production" in holder.serving.snapshots and any(kept.glob("*.jsonl")))
        database.put(DeleteEnvironment())
        eventually(lambda: not holder.serving.snapshots and not any(kept.glob("*.jsonl")))
        database.put(CreateEnvironment(Environment("shop", "production")), PutFlag(boolean("b")))
        eventually(lambda: "shop/production" in holder.serving.snapshots)

        snapshot = holder.find("")
        assert (4, ["b"]) == (snapshot.revision, list(snapshot.flags))


def test_a_large_segment_is_kept_with_its_keys(tmp_path: Path) -> None:
    """A server that starts without the database still knows who is in."""
    database = Database(tmp_path)
    keys = key_list(f"user-{number}" for number in range(10_001))
    rule = Rule("many", "on", {"$ref": "large"})
    database.put(PutSegment(Segment("large", key_list=keys)), PutFlag(boolean("a", rules=(rule,), default="off")))
    kept = tmp_path / "kept"
    with following(database.engine, kept) as holder:
        eventually(lambda: holder.ready and any(kept.glob("*.jsonl")))
    database.path.rename(tmp_path / "away.db")

    with following(database.engine, kept) as holder:
        eventually(lambda: holder.ready)
        answers = [holder.find("").resolve("a", {"targetingKey": unit}, 0).value for unit in ("user-7", "eve")]
    assert [True, False] == answers
