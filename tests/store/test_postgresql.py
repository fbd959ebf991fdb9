"""What PostgreSQL does in a way of its own: turns, lost connections, waiting, the order of texts."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, select, text

from server.core.changes import PutFlag
from server.core.errors import FlagstaffError, InvalidRequest, StoreCorrupt, StoreUnavailable
from server.store import tables
from server.store.engine import open_engine, reading, watching, writing
from server.store.flagsets import load_documents, stream_documents
from server.store.kinds import Transaction
from server.store.postgresql import PostgreSQL
from server.store.postgresql_driver import ANSWER_MAX_S, SILENCE_MAX_S
from server.store.statements import insert_rows, together
from tests import postgres
from tests.store.definitions import NOW, ON_POSTGRESQL, another, at, behind_our_back, flag, put, stored

pytestmark = ON_POSTGRESQL


def driver_of(connection: Any) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection


def test_writers_about_one_project_take_turns(shop: Engine) -> None:
    """Eight at once: nobody is refused, nothing is lost, revisions have no gap."""
    engines = [another(shop) for _ in range(8)]

    def write(place: int) -> list[int]:
        return [put(engines[place], PutFlag(flag(f"f{place}", description=str(n)))).revision for n in range(5)]

    with ThreadPoolExecutor(len(engines)) as pool:
        revisions = sorted(revision for each in pool.map(write, range(len(engines))) for revision in each)
    for engine in engines:
        engine.dispose()

    assert list(range(2, 42)) == revisions
    assert {"4"} == {(document or {})["description"] for document in stored(shop).flags.values()}


def test_writers_about_different_things_do_not_wait(shop: Engine) -> None:
    """Two projects go on beside each other; one about everything waits for both."""
    other = another(shop)
    with writing(shop, about="project/a"), writing(other, about="project/b"):
        with other.connect() as connection:
            driver_of(connection).execute("SET lock_timeout = 20")
        with pytest.raises(StoreUnavailable, match="another writer holds"), writing(other):
            pass
    other.dispose()


def test_a_patient_writer_gives_up(shop: Engine) -> None:
    """One that waits too long for its turn is told so, and has written nothing."""
    impatient = another(shop)
    with impatient.connect() as connection:
        driver_of(connection).execute("SET lock_timeout = 20")

    with writing(shop, about="project/shop"), pytest.raises(StoreUnavailable, match="another writer holds"):
        put(impatient, PutFlag(flag()))
    assert {} == stored(shop).flags
    impatient.dispose()


def test_a_reader_sees_one_moment(shop: Engine) -> None:
    """What is committed while it reads is not there."""
    other = another(shop)
    with reading(shop) as connection:
        before = load_documents(connection, project="shop", environment="production")
        put(other, PutFlag(flag()))

        assert before == load_documents(connection, project="shop", environment="production")
    other.dispose()
    assert ["checkout"] == list(stored(shop).flags)


def test_connections_that_were_lost_while_idle_are_replaced(shop: Engine) -> None:
    """A server that was restarted costs nobody an error."""
    with reading(shop), reading(shop):
        pass
    with behind_our_back(shop) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != "
            "pg_backend_pid()"
        )
    time.sleep(0.05)

    assert {} == stored(shop).flags
    assert 2 == put(shop, PutFlag(flag())).revision


def test_a_connection_that_is_lost_at_the_commit_leaves_doubt(shop: Engine) -> None:
    """Nobody may believe that nothing was written, nor that it was."""
    with pytest.raises(StoreUnavailable, match="may or may not be there"), writing(shop) as connection:
        pid = driver_of(connection).info.backend_pid
        with behind_our_back(shop) as outside:
            outside.execute("SELECT pg_terminate_backend(?, 5000)", [pid])


def test_a_connection_that_is_lost_before_the_commit_wrote_nothing(shop: Engine) -> None:
    """The caller may try again."""
    with pytest.raises(StoreUnavailable) as lost, writing(shop) as connection:
        with behind_our_back(shop) as outside:
            outside.execute("SELECT pg_terminate_backend(?, 5000)", [driver_of(connection).info.backend_pid])
        connection.execute(text("UPDATE environment SET revision = 99"))

    assert "may or may not" not in str(lost.value)
    assert 1 == at(shop).revision


def test_a_hint_wakes_who_watches(shop: Engine) -> None:
    """Long before its next look; a lease's commit hints at nothing."""
    other = another(shop)
    with watching(shop) as watch:
        committing = threading.Timer(0.1, lambda: put(other, PutFlag(flag())))
        committing.start()
        started_at = time.monotonic()
        watch.wait(60.0, until=lambda: False)
        waited_s = time.monotonic() - started_at
        committing.join()
        with writing(other, about="lease/x", tells=False):
            pass
        hinted = list(driver_of_watch(watch).notifies(timeout=0.1))
    other.dispose()

    assert waited_s < 30
    assert [] == hinted


def driver_of_watch(watch: Any) -> Any:
    """Its connection."""
    return watch._driver


def test_a_watch_notices_a_lost_server(shop: Engine) -> None:
    """While it waits, not at the next commit."""
    with pytest.raises(StoreUnavailable), watching(shop) as watch:
        with behind_our_back(shop) as outside:
            outside.execute("SELECT pg_terminate_backend(?)", [driver_of_watch(watch).info.backend_pid])
        while True:
            watch.wait(60.0, until=lambda: False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": "wrong"}, "no entry to .*check user and password|cannot reach .*password authentication failed"),
        ({"database": "nowhere"}, "nowhere"),
        ({"port": 1}, "cannot reach"),
    ],
)
def test_who_cannot_be_reached_is_named(url: str, changes: dict[str, Any], message: str) -> None:
    """With what to look at, and without the password."""
    address = make_url(url).set(**changes)
    engine = open_engine(postgres.text_of(address))

    with pytest.raises(StoreUnavailable, match=message) as refused, reading(engine):
        pass
    assert (address.password or "?") not in str(refused.value)


def test_a_password_in_a_parameter_is_not_shown(kind: str) -> None:
    """An address may have it there too."""
    del kind
    with pytest.raises(InvalidRequest) as refused:
        open_engine("postgresql+asyncpg://ann@db/flags?password=secret&sslpassword=secret")

    assert "secret" not in str(refused.value)


@pytest.fixture
def refusing() -> Iterator[tuple[int, list[float]]]:
    """A port where every connection is taken and dropped, and when that was."""
    attempts: list[float] = []
    with socket.create_server((postgres.HOST, 0)) as listener:

        def drop() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                attempts.append(time.monotonic())
                connection.close()

        thread = threading.Thread(target=drop)
        thread.start()
        yield listener.getsockname()[1], attempts
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_that_is_away_is_tried_once_a_second(kind: str, refusing: tuple[int, list[float]]) -> None:
    """However many ask; all are told at once what was wrong the last time."""
    del kind
    port, attempts = refusing
    engine = open_engine(f"postgresql+psycopg://ann:secret@{postgres.HOST}:{port}/flags?sslmode=disable")

    with pytest.raises(StoreUnavailable), reading(engine):
        pass

    def ask(_: int) -> None:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            with pytest.raises(FlagstaffError, match="cannot reach"), reading(engine):
                pass
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))

    assert 1 < len(attempts) <= 3
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(attempts))


def test_a_silent_server_is_given_up(shop: Engine) -> None:
    """Keep-alive does not notice a frozen one."""
    with pytest.raises(StoreUnavailable, match="the server said nothing"), reading(shop) as connection:
        driver_of(connection).silence_max_s = 0.2
        connection.execute(text("SELECT pg_sleep(30)"))

    assert {} == stored(shop).flags


def test_of_statements_that_run_together_the_first_failure_is_told(shop: Engine) -> None:
    """It ends the transaction with all that was done in it, and the connection goes on."""
    row = {"project": "shop", "id": "one", "digest": "", "environment": "", "revision": 1, "unchanged": False}
    sound, broken = {**row, "at": NOW}, {**row, "id": "two", "project": "nowhere", "at": NOW}

    with (
        pytest.raises(StoreCorrupt, match="a rule of the schema refused"),
        writing(shop) as connection,
        together(connection),
    ):
        insert_rows(connection, tables.requests, [sound])
        insert_rows(connection, tables.requests, [broken])
        insert_rows(connection, tables.requests, [{**sound, "id": "three"}])

    with writing(shop) as connection:
        assert [] == connection.execute(select(tables.requests.c.id)).all()
        with together(connection):
            insert_rows(connection, tables.requests, [sound, {**sound, "id": "three"}])
        assert ["one", "three"] == list(connection.execute(select(tables.requests.c.id)).scalars())


class Asked:
    """Stands for a connection; notes what it was asked, and how long the answer might have taken."""

    silence_max_s = 0.0
    tells = True

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at
        self.asked: list[tuple[str, float]] = []

    def execute(self, statement: str) -> None:
        """Answer at once."""
        self.asked.append((statement.split(maxsplit=1)[0].rstrip(";"), self.silence_max_s))


@pytest.mark.parametrize(
    ("how", "idle_s", "expected"),
    [
        (Transaction(), 0.0, [("BEGIN", ANSWER_MAX_S)]),
        (Transaction(writes=True, about="a"), 60.0, [("BEGIN", ANSWER_MAX_S), ("SELECT", SILENCE_MAX_S)]),
        (Transaction(writes=True, about="a"), 0.0, [("BEGIN", SILENCE_MAX_S)]),
        (Transaction(writes=True, unhurried=True), 60.0, [("BEGIN", ANSWER_MAX_S), ("SET", math.inf)]),
    ],
    ids=["a reader", "a writer after a while", "a writer at once", "a migration"],
)
def test_a_server_that_was_not_heard_for_long_must_answer_soon(
    kind: str, how: Transaction, idle_s: float, expected: list[tuple[str, float]]
) -> None:
    """So that a write to a frozen one fails soon; waiting for a turn, or for the disk, may take longer."""
    del kind
    driver = Asked(time.monotonic() - idle_s)

    PostgreSQL().begin(driver, how)

    assert expected == driver.asked
    assert driver.silence_max_s == (math.inf if how.unhurried else SILENCE_MAX_S)


def test_keys_are_ordered_as_everywhere(shop: Engine) -> None:
    """By code point, whatever language the server sorts by."""
    keys = ["Zebra", "a-b", "a_b", "ab", "zebra", "\u00e4", "\U0001f600"]
    put(shop, *(PutFlag(flag(key)) for key in reversed(keys)))

    assert keys == list(stored(shop).flags)


def test_texts_have_the_order_of_code_points(shop: Engine) -> None:
    """Every text column does, also those of migrations to come."""
    query = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND data_type IN "
        "('text', 'character varying') AND collation_name IS DISTINCT FROM 'C' AND table_name != 'alembic_version'"
    )
    with reading(shop) as connection:
        assert [] == connection.exec_driver_sql(query).all()


def test_whole_numbers_and_instants_are_wide(shop: Engine) -> None:
    """64 bits, and a time zone."""
    query = "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'public'"
    with reading(shop) as connection:
        kinds = set(connection.exec_driver_sql(query).scalars())

    assert not {"integer", "timestamp without time zone"} & kinds


def test_nul_is_refused(shop: Engine) -> None:
    """PostgreSQL cannot keep it, and a text without it is another text."""
    with pytest.raises(InvalidRequest, match="NUL"), writing(shop) as connection:
        connection.execute(text("UPDATE project SET name = :name"), {"name": "a\0b"})


def test_a_streamed_set_is_not_read_at_once(shop: Engine) -> None:
    """Rows come as they are asked for."""
    put(shop, *(PutFlag(flag(f"f{number:04}")) for number in range(1_200)))
    with reading(shop) as connection:
        streamed = stream_documents(connection, project="shop", environment="production")
        first = next(streamed.flags)[0]
        open_cursors = driver_of(connection).execute("SELECT count(*) FROM pg_cursors WHERE is_holdable = false")
        counted = open_cursors.fetchone()[0]
        rest = sum(1 for _ in streamed.flags)

    assert ("f0000", 1_199) == (first, rest)
    assert counted >= 1


def test_a_server_that_forgets_acknowledged_commits_is_told_not_to(shop: Engine) -> None:
    """Its default may be faster than safe."""
    with behind_our_back(shop) as connection:
        connection.execute(f"ALTER DATABASE {shop.url.database} SET synchronous_commit = off")
    fresh = another(shop)
    with reading(fresh) as ours:
        assert "on" == ours.exec_driver_sql("SHOW synchronous_commit").scalar_one()
    fresh.dispose()
