"""Whatever is done to the rows of an audit trail behind our back, verification names the row."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from sqlalchemy import Engine

from server.core.audit import ROW, AuditEntry, chain_hash
from server.core.changes import PutFlag
from server.core.trails import BreakKind, Mark, Verified
from server.store.audit import count_strays, list_entries, list_trails, read_head, verify_trail
from server.store.engine import reading
from tests.store.definitions import flag, new_shop, put

ENTRIES: Final = 8
Attack: TypeAlias = Callable[[sqlite3.Connection], Any]


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Engine]:
    """A shop whose trail has eight entries."""
    engine = new_shop(tmp_path)
    for number in range(ENTRIES - 3):
        put(engine, PutFlag(flag(description=f"number {number}")), reason="why", cause="t-1", request_id=f"r{number}")
    yield engine
    engine.dispose()


def attacked(engine: Engine, attack: Attack) -> Verified:
    """Change the file as somebody does who owns it, then verify."""
    path = engine.url.database
    assert path is not None
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for verb in ("update", "delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS audit_entry_refuses_{verb}")
        attack(connection)
    connection.close()
    return verify_trail(engine, "shop")


def update(sequence: int, column: str, value: object) -> Attack:
    """Edit one value of one row."""
    return lambda connection: connection.execute(
        f"UPDATE audit_entry SET {column} = ? WHERE project = 'shop' AND sequence = ?", (value, sequence)
    )


def run(*statements: str) -> Attack:
    """Run SQL."""
    return lambda connection: [connection.execute(statement) for statement in statements]


def named(found: Verified) -> list[tuple[int, BreakKind]]:
    """Which entry, and what was done to it."""
    return [(each.sequence, each.kind) for each in found.breaks]


def test_an_untouched_trail_is_whole(trail: Engine) -> None:
    """Nothing is found where nothing was done."""
    found = verify_trail(trail, "shop")

    assert (True, ENTRIES, ENTRIES) == (found.whole, found.entry_count, found.last_sequence)


@pytest.mark.parametrize("sequence", [1, 4, ENTRIES])
@pytest.mark.parametrize("column", sorted(set(ROW) - {"sequence", "project"}))
def test_an_edited_value_is_named(trail: Engine, column: str, sequence: int) -> None:
    """Each column of the first, a middle and the last entry."""
    new: object = "2031-01-01 00:00:00.000000" if column == "at" else 77 if column == "revision" else "eve"
    found = attacked(trail, update(sequence, column, new))

    assert sequence in [each.sequence for each in found.breaks]
    assert {each.sequence for each in found.breaks} <= {sequence, sequence + 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "long ago"),
        ("at", b"\xff\xfe"),
        ("at", 7),
        ("actor", b"\xff\xfe"),
        ("before", b"\x00"),
        ("after", None),
        ("revision", "many"),
        ("revision", 2.5),
        ("hash", b"\xff"),
        ("previous_hash", ""),
        ("reason", "\x7f"),
        ("reason", "é\x00"),
    ],
)
def test_a_value_of_another_type_is_named(trail: Engine, column: str, value: object) -> None:
    """One that no program of ours can have written, and that may not even be read."""
    found = attacked(trail, update(4, column, value))

    assert 4 in [each.sequence for each in found.breaks]
    assert ENTRIES == found.entry_count


@pytest.mark.parametrize("sequence", range(1, ENTRIES + 1))
def test_a_removed_entry_is_named(trail: Engine, sequence: int) -> None:
    """The last one too: its environment is further than the trail."""
    found = attacked(trail, run(f"DELETE FROM audit_entry WHERE sequence = {sequence}"))
    kind = BreakKind.TRUNCATED if sequence == ENTRIES else BreakKind.MISSING

    assert [(sequence, kind)] == named(found)


def test_a_removed_range_is_named(trail: Engine) -> None:
    """One line, not one for each."""
    found = attacked(trail, run("DELETE FROM audit_entry WHERE sequence BETWEEN 3 AND 6"))

    assert ["entries 3 to 6 are missing, entry 7 follows"] == list(map(str, found.breaks))


def test_a_cut_end_is_named(trail: Engine) -> None:
    """The revision that the environment is at tells of entries that are gone."""
    found = attacked(trail, run("DELETE FROM audit_entry WHERE sequence > 5"))

    assert [(6, BreakKind.TRUNCATED)] == named(found)
    assert "environment 'production' is at revision 6" in str(found.breaks[0])


def test_a_cut_end_is_found_by_a_head(trail: Engine) -> None:
    """Also where everything else was put back too, as from an old copy of the file."""
    with reading(trail) as connection:
        head = read_head(connection, "shop")
    put_back = ("DELETE FROM audit_entry WHERE sequence > 5", "UPDATE environment SET revision = 3 WHERE revision = 6")
    attacked(trail, run(*put_back))

    assert verify_trail(trail, "shop").whole
    found = verify_trail(trail, "shop", marks=[head])
    assert ["entries 6 to 8 are missing at the end: a signed head has 8"] == list(map(str, found.breaks))


def test_two_entries_in_each_others_place_are_named(trail: Engine) -> None:
    """Reordered, not edited."""
    found = attacked(
        trail,
        run(
            "UPDATE audit_entry SET sequence = 100 WHERE sequence = 3",
            "UPDATE audit_entry SET sequence = 3 WHERE sequence = 6",
            "UPDATE audit_entry SET sequence = 6 WHERE sequence = 100",
        ),
    )
    moved = [str(each) for each in found.breaks if each.kind is BreakKind.MOVED]

    assert [
        "entry 3 is out of its place: it was written as entry 6",
        "entry 6 is out of its place: it was written as entry 3",
    ] == moved


def test_an_entry_of_another_project_is_named(trail: Engine) -> None:
    """It is missing in the one, and in the other it is no entry of its own."""
    found = attacked(trail, update(4, "project", "other"))
    with reading(trail) as connection:
        trails = [verify_trail(trail, project) for project in list_trails(connection)]

    assert [(4, BreakKind.MISSING)] == named(found)
    assert ["", "other", "shop"] == [each.project for each in trails]
    assert {(1, BreakKind.MISSING), (4, BreakKind.CHANGED)} == set(named(trails[1]))


@pytest.mark.parametrize("sequence", ["x", b"x", 3.5, -4, 0])
def test_a_sequence_number_that_is_none_is_told(trail: Engine, sequence: object) -> None:
    """The row is missing at its place."""
    found = attacked(trail, update(4, "sequence", sequence))

    assert (4, BreakKind.MISSING) in named(found)


def test_rows_of_no_trail_are_counted(trail: Engine) -> None:
    """A row that no trail has is still there."""
    attacked(trail, update(4, "sequence", -4))
    with reading(trail) as connection:
        strays = count_strays(connection, [verify_trail(trail, project) for project in list_trails(connection)])

    assert 1 == strays


def test_an_inserted_entry_is_named(trail: Engine) -> None:
    """Behind the last one, with the right hash before it and a made-up one of its own."""
    copy = ", ".join({"sequence": "9", "actor": "'eve'", "previous_hash": "hash"}.get(name, name) for name in ROW)
    found = attacked(
        trail, run(f"INSERT INTO audit_entry ({', '.join(ROW)}) SELECT {copy} FROM audit_entry WHERE sequence = 8")
    )

    assert [(9, BreakKind.CHANGED)] == named(found)


def test_an_exchanged_entry_needs_the_whole_rest_written_anew(trail: Engine) -> None:
    """With its own hash mended, the entry behind it shows; with all mended, the head does."""
    with reading(trail) as connection:
        entries = list(reversed(list_entries(connection, project="shop")))
        head = read_head(connection, "shop")
    forged = replace(entries[3], actor="eve")
    forged = replace(forged, hash=chain_hash(forged, forged.previous_hash))
    one = attacked(trail, writing(forged))
    previous = forged.hash
    for entry in entries[4:]:
        mended = replace(entry, previous_hash=previous)
        previous = chain_hash(mended, previous)
        attacked(trail, writing(replace(mended, hash=previous)))

    assert [(5, BreakKind.DETACHED)] == named(one)
    assert verify_trail(trail, "shop").whole
    found = verify_trail(trail, "shop", marks=[head, Mark(2, entries[1].hash)])
    assert [(ENTRIES, BreakKind.REWRITTEN)] == named(found)


def test_the_instant_counts_to_the_microsecond(trail: Engine) -> None:
    """As it is stored."""
    with reading(trail) as connection:
        at = list_entries(connection, project="shop", limit=1)[0].at + timedelta(microseconds=1)
    found = attacked(trail, update(ENTRIES, "at", at.strftime("%Y-%m-%d %H:%M:%S.%f")))

    assert [(ENTRIES, BreakKind.CHANGED)] == named(found)


def writing(entry: AuditEntry) -> Attack:
    """Write one entry's actor and hashes."""
    return lambda connection: connection.execute(
        "UPDATE audit_entry SET actor = ?, hash = ?, previous_hash = ? WHERE project = ? AND sequence = ?",
        (entry.actor, entry.hash, entry.previous_hash, entry.project, entry.sequence),
    )
