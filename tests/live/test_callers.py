"""Tokens are followed: made, revoked, used, and known by the right key only."""

import logging
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Engine

from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.errors import StoreCorrupt, StoreUnavailable
from server.live.callers import ASKING_MAX, ENDED_TOLD, Callers
from server.live.kept_tokens import KeptTokens
from server.operations.tokens import SERVER, Minted, NewToken, Tokens
from server.operations.writes import Write
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.store.definitions import behind_our_back, new_engine

SECRET: Final = b"a secret key of the server's tests"
TIMEOUT_S: Final = 60.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database without tokens."""
    engine = new_engine(tmp_path)
    yield engine
    engine.dispose()


def write(**options: object) -> Write:
    """How a token is asked for."""
    return replace(Write(OPEN, Action.ADMINISTER, datetime.now(UTC)), **options)  # type: ignore[arg-type]


def mint(engine: Engine, *, secret: bytes = SECRET) -> Minted:
    """A token in the database."""
    return Tokens(engine, lambda: secret).create(NewToken("x", (Grant(Role.READ),), SERVER), write())


def following(engine: Engine, secret: bytes | None = SECRET) -> Callers:
    """Callers that have looked once."""
    callers = Callers(engine, lambda: secret)
    callers.look()
    return callers


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what a thread is to do."""
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_token_is_found_by_its_text(engine: Engine) -> None:
    """The same caller each time, so that what becomes of the token reaches all who hold it."""
    minted = mint(engine)
    callers = following(engine)
    caller = callers.book.find(minted.text)
    assert caller is not None
    Tokens(engine, lambda: SECRET).revoke(minted.token.id, SERVER, write())
    callers.look()

    assert minted.token.principal == caller.principal
    assert caller is callers.book.find(minted.text)
    assert f"token:{minted.token.id} was revoked" == caller.problem(0)


def test_what_somebody_is_allowed_now(engine: Engine) -> None:
    """By their token of now: nothing when it ended or is not known; of others than tokens nobody can tell."""
    minted = mint(engine)
    actor = minted.token.principal.actor
    with pytest.raises(StoreUnavailable):
        Callers(engine, lambda: SECRET).who_is(actor)
    callers = following(engine)
    before = callers.who_is(actor)
    Tokens(engine, lambda: SECRET).revoke(minted.token.id, SERVER, write())
    callers.look()

    assert (minted.token.principal, None) == (before, callers.who_is("oidc:ann"))
    assert [Principal(actor), Principal("token:nobody")] == [callers.who_is(each) for each in (actor, "token:nobody")]


def test_nothing_is_remembered_of_unknown_tokens(engine: Engine) -> None:
    """Else anybody could fill the memory."""
    callers = following(engine)
    minted = mint(engine)

    assert [None, {}] == [callers.book.find(minted.text), callers.book.seen]


def test_a_token_made_with_another_key(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Is not known, and the log says what is wrong."""
    minted = mint(engine)
    callers = following(engine, b"another secret key, as long as it")
    messages = [(each.levelno, vars(each)["tokens"]) for each in caplog.records]

    assert (None, [(logging.ERROR, 1)]) == (callers.book.find(minted.text), messages)


def test_a_key_may_come_later(engine: Engine) -> None:
    """It is made beside the database at the first token, when a server runs already."""
    given: list[bytes | None] = [None]
    callers = Callers(engine, lambda: given[0])
    callers.look()
    minted = mint(engine)
    callers.look()
    before = callers.book.find(minted.text)
    given[0] = SECRET
    callers.look()

    assert (None, True) == (before, callers.book.find(minted.text) is not None)


def test_a_token_that_ended_long_ago_is_forgotten(engine: Engine) -> None:
    """Until then its user is told that it ended; who still holds a stream learns of it too."""
    minted = mint(engine)
    callers = following(engine)
    caller = callers.book.find(minted.text)
    at = datetime.now(UTC) - ENDED_TOLD
    tokens = Tokens(engine, lambda: SECRET)
    tokens.revoke(minted.token.id, SERVER, write(now=at - timedelta(seconds=1)))
    callers.look()

    assert caller is not None
    assert (None, True) == (callers.book.find(minted.text), "not known any more" in caller.problem(0))


def test_a_damaged_token_is_left_out(engine: Engine) -> None:
    """The others are known all the same."""
    damaged, sound = mint(engine), mint(engine)
    with behind_our_back(engine) as connection:
        connection.execute('UPDATE token SET grants = \'[{"role": "root"}]\' WHERE id = ?', [damaged.token.id])
    callers = following(engine)

    assert [False, True] == [callers.book.find(each.text) is not None for each in (damaged, sound)]


def test_use_is_noted_once_in_a_while(engine: Engine) -> None:
    """Only what is news is written, and never an earlier instant than there is."""
    minted, idle = mint(engine), mint(engine)
    callers = following(engine)
    caller = callers.book.find(minted.text)
    assert caller is not None
    tokens = Tokens(engine, lambda: SECRET)
    found = []
    for used_at in (1_000.0, 1_000.0, 2_000.0, 1_500.0):
        caller.used_at = used_at
        callers.note()
        at = tokens.get(minted.token.id, SERVER).token.last_used_at
        found.append(at and at.timestamp())

    assert [1_000.0, 1_000.0, 2_000.0, 2_000.0] == found
    assert None is tokens.get(idle.token.id, SERVER).token.last_used_at


def test_a_thread_follows(tmp_path: Path) -> None:
    """From before the schema is there; tokens come in by themselves, and use is noted at the end."""
    engine = open_engine(f"sqlite:///{tmp_path}/flagstaff.db")
    changes: list[None] = []
    callers = Callers(engine, lambda: SECRET, changed=lambda: changes.append(None), poll_s=0.01)
    callers.start()
    try:
        migrate(engine)
        wait_until(lambda: callers.loaded)
        minted = mint(engine)
        wait_until(lambda: callers.book.find(minted.text) is not None)
        callers.book.find(minted.text).used_at = 3_000.0  # type: ignore[union-attr]
    finally:
        callers.stop()
    stored = Tokens(engine, lambda: SECRET).get(minted.token.id, SERVER).token
    engine.dispose()

    assert (True, datetime.fromtimestamp(3_000.0, UTC)) == (len(changes) >= 2, stored.last_used_at)


def test_who_meets_an_unknown_token_has_the_database_looked_at(engine: Engine) -> None:
    """At once, and not when the next look is due; whoever asks meanwhile is answered by the same look."""
    callers = Callers(engine, lambda: SECRET, poll_s=3_600.0)
    callers.start()
    try:
        wait_until(lambda: callers.loaded)
        minted = mint(engine)
        asked = [callers.ask() for _ in range(100)]
        for each in asked:
            assert each is not None
            each.result(TIMEOUT_S)
        found = callers.book.find(minted.text)
    finally:
        callers.stop()

    assert found is not None
    assert minted.token.principal == found.principal


def test_unknown_tokens_are_looked_for_at_a_steady_rate(engine: Engine) -> None:
    """However fast they come."""
    callers = Callers(engine, lambda: SECRET, poll_s=3_600.0, apart_s=0.1)
    callers.start()
    began = time.monotonic()
    try:
        for _ in range(4):
            asked = callers.ask()
            assert asked is not None
            asked.result(TIMEOUT_S)
    finally:
        callers.stop()

    assert time.monotonic() - began >= 0.25


def test_so_many_wait_for_a_look(engine: Engine) -> None:
    """The others are told at once that nobody looks for them."""
    callers = Callers(engine, lambda: SECRET, poll_s=3_600.0, apart_s=3_600.0)
    callers.start()
    try:
        wait_until(lambda: callers.loaded)
        waiting = [callers.ask() for _ in range(ASKING_MAX + 1)]
    finally:
        callers.stop()

    assert [True] * ASKING_MAX + [False] == [each is not None for each in waiting]
    assert all(isinstance(each.exception(0), StoreUnavailable) for each in waiting if each is not None)


def test_who_asks_is_told_when_the_database_cannot_say(engine: Engine, tmp_path: Path) -> None:
    """Also at the end; nobody waits for ever."""
    callers = Callers(engine, lambda: SECRET, poll_s=3_600.0)
    assert None is callers.ask()
    callers.start()
    wait_until(lambda: callers.loaded)
    engine.dispose()
    (tmp_path / "flagstaff.db").rename(tmp_path / "away.db")
    asked = callers.ask()
    assert asked is not None
    with pytest.raises(StoreUnavailable, match="cannot be read now"):
        asked.result(TIMEOUT_S)
    callers.stop()

    assert None is callers.ask()


def test_tokens_outlive_the_database(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While it is gone, those that were loaded stay good, and the log says so once."""
    minted = mint(engine)
    callers = Callers(engine, lambda: SECRET, poll_s=0.01, note_every_s=0.01)
    callers.start()
    try:
        wait_until(lambda: callers.book.find(minted.text) is not None)
        engine.dispose()
        (tmp_path / "flagstaff.db").rename(tmp_path / "away.db")
        (tmp_path / "flagstaff.db").mkdir()
        wait_until(lambda: any("stay good" in each.message for each in caplog.records))
        with pytest.raises(StoreUnavailable):
            callers.look()
    finally:
        callers.stop()
    caller = callers.book.find(minted.text)

    assert caller is not None
    assert "" == caller.problem(time.time())
    assert 1 == sum("stay good" in each.message for each in caplog.records)


def test_a_start_without_the_database_knows_tokens(engine: Engine, tmp_path: Path) -> None:
    """As they were kept last, for their owner's eyes only and without any secret."""
    good, bad = mint(engine), mint(engine)
    Tokens(engine, lambda: SECRET).revoke(bad.token.id, SERVER, write())
    kept = KeptTokens(tmp_path / "kept")
    Callers(engine, lambda: SECRET, kept=kept).look()
    content = kept.path.read_text()
    away = open_engine(f"sqlite:///{tmp_path}/missing/flags.db")
    callers = Callers(away, lambda: SECRET, kept=kept, poll_s=0.01)
    callers.start()
    try:
        wait_until(lambda: callers.loaded)
    finally:
        callers.stop()
        away.dispose()
    found = [callers.book.find(each.text) for each in (good, bad)]

    assert [good.token.principal, bad.token.principal] == [each and each.principal for each in found]
    assert ["", f"token:{bad.token.id} was revoked"] == [each.problem(time.time()) for each in found if each]
    assert (0o600, False) == (stat.S_IMODE(kept.path.stat().st_mode), good.text[13:] in content)
    assert [kept.path] == list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 2, "tokens": []}', '{"format": 1, "tokens": [{}]}'])
def test_a_damaged_file_of_tokens(tmp_path: Path, content: str) -> None:
    """Is none; without it the database is waited for."""
    kept = KeptTokens(tmp_path)
    assert [] == kept.read()
    kept.path.write_text(content)

    with pytest.raises(StoreCorrupt, match=r"tokens\.json is damaged"):
        kept.read()
