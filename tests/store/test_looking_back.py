"""The audit trail and the past, read the same way from every kind of database."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.core.changes import PutFlag, PutSegment, RemoveFlag
from server.core.errors import NotFound
from server.core.json import Json
from server.core.trails import BreakKind, Mark
from server.operations.asof import AsOf
from server.operations.history import Place, When
from server.store.audit import (
    EntryFilter,
    count_strays,
    entries_after,
    find_entries,
    last_sequence,
    list_trails,
    read_head,
    verify_trail,
)
from server.store.engine import reading
from server.store.history import (
    count_history,
    list_history,
    moment_at,
    moment_of,
    revisions_touching,
    things_touched,
)
from tests.store.definitions import NOW, SHOP, behind_our_back, database, flag, put, segment, unlock_history

ANN: dict[str, Json] = {"targetingKey": "ann", "plan": "pro"}


@pytest.fixture
def lived(tmp_path: Path, kind: str) -> Iterator[Engine]:
    """A shop whose production has five revisions, an hour apart; eight entries in all."""
    with database(tmp_path, kind, shop=True) as engine:
        rule = {"id": "vip", "condition": {"$ref": "vip"}, "serve": "on"}
        put(engine, PutSegment(segment("vip", {"==": [{"var": "plan"}, "free"]})), PutFlag(flag(rules=[rule])))
        put(engine, PutSegment(segment("vip", {"==": [{"var": "plan"}, "pro"]})), now=NOW + timedelta(hours=1))
        put(engine, PutFlag(flag()), reason="100%_sure: Größe", now=NOW + timedelta(hours=2, microseconds=7))
        put(engine, RemoveFlag("checkout"), actor="bob", now=NOW + timedelta(hours=3))
        yield engine


def test_a_trail_is_whole_until_it_is_touched(lived: Engine) -> None:
    """By the same hashes everywhere."""
    whole = verify_trail(lived, "shop")
    with behind_our_back(lived) as connection:
        unlock_history(lived, connection)
        connection.execute("UPDATE audit_entry SET actor = 'eve' WHERE sequence = 6 AND project = 'shop'")
        connection.execute("DELETE FROM audit_entry WHERE sequence = 4 AND project = 'shop'")
    touched = verify_trail(lived, "shop", marks=[Mark(9, "0" * 64)])

    assert (True, 8) == (whole.whole, whole.entry_count)
    assert [(4, BreakKind.MISSING), (6, BreakKind.CHANGED), (9, BreakKind.TRUNCATED)] == [
        (each.sequence, each.kind) for each in touched.breaks
    ]


def test_trails_are_named_and_counted(lived: Engine) -> None:
    """The server's own too; no row is beside them."""
    with reading(lived) as connection:
        trails = list_trails(connection)
        strays = count_strays(connection, [verify_trail(lived, each) for each in trails])
        head, last = read_head(connection, "shop"), last_sequence(connection, "shop")
        empty = read_head(connection, "none")

    assert (["", "shop"], 0, 8, 8, 0) == (trails, strays, head.sequence, last, empty.sequence)


@pytest.mark.parametrize(
    ("wanted", "sequences"),
    [
        (EntryFilter(), [8, 7, 6, 5, 4, 3, 2, 1]),
        (EntryFilter(actor="bob"), [8]),
        (EntryFilter(subject_kind="segment", subject_key="vip"), [6, 4]),
        (EntryFilter(text="SURE: gr"), [7]),
        (EntryFilter(text="%_"), [7]),
        (EntryFilter(text="_ %"), []),
        (EntryFilter(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=3)), [7, 6]),
        (EntryFilter(environment=""), [1]),
    ],
)
def test_entries_are_found(lived: Engine, wanted: EntryFilter, sequences: list[int]) -> None:
    """The newest first, or the oldest behind one."""
    with reading(lived) as connection:
        found, further = find_entries(connection, "shop", wanted)
        behind, looked = entries_after(connection, "shop", wanted, sequence=0, limit=100)

    assert (sequences, None) == ([each.sequence for each in found], further)
    assert (sequences[::-1], 8) == ([each.sequence for each in behind], looked)


def test_what_happened_to_a_thing_is_found(lived: Engine) -> None:
    """And what commits touched."""
    with reading(lived) as connection:
        entries = list_history(connection, SHOP, ("flag", "checkout"))
        second = list_history(connection, SHOP, ("flag", "checkout"), before_sequence=8, limit=1)
        total = count_history(connection, SHOP, ("flag", "checkout"))
        touched = things_touched(connection, SHOP, after=2, until=4)
        revisions = revisions_touching(
            connection, SHOP, [("flag", "checkout"), ("segment", "vip")], after=2, until=5, limit=10
        )

    assert ([5, 4, 2], 3, [4]) == ([each.revision for each in entries], total, [each.revision for each in second])
    assert ({("flag", "checkout"), ("segment", "vip")}, [3, 4, 5]) == (touched, revisions)


@pytest.mark.parametrize(("hours", "revision"), [(0, 2), (1, 3), (1.5, 3), (2, 3), (2.5, 4), (100, 5)])
def test_an_instant_has_a_revision(lived: Engine, hours: float, revision: int) -> None:
    """To the microsecond."""
    with reading(lived) as connection:
        moment = moment_at(connection, project="shop", environment="production", at=NOW + timedelta(hours=hours))

    assert (revision, SHOP) == (moment.revision, moment.environment)


def test_a_moment_before_the_first_is_none(lived: Engine) -> None:
    """Nor is a revision behind the last."""
    with reading(lived) as connection:
        with pytest.raises(NotFound, match="did not exist yet"):
            moment_at(connection, project="shop", environment="production", at=NOW - timedelta(microseconds=1))
        with pytest.raises(NotFound, match="has revisions 1 to 5, asked for 6"):
            moment_of(connection, project="shop", environment="production", revision=6)


def test_flags_are_evaluated_as_of_then(lived: Engine) -> None:
    """And compared."""
    past = AsOf(lived)
    place = Place("shop", "production")
    variants = [
        past.evaluate(place, "checkout", ANN, when=When(revision=revision)).resolution.variant
        for revision in (2, 3, 4, 5)
    ]
    (moved,) = past.compare(place, ANN, first=When(revision=2), second=When()).moved

    assert ["off", "on", "off", None] == variants
    assert [3, 4, 5] == [move.moment.revision for move in moved.moves]
