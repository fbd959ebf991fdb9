"""Lists of flags: filters, sorting, pages."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from server.core.changes import PutFlag
from server.core.edits import ArchiveFlag, SetEnabled, UpdateFlag
from server.store import tables
from server.store.engine import open_engine, reading
from server.store.flags import Archived, FlagFilter, Listed, Order, Page, list_flags
from server.store.migrations import migrate
from server.store.saving import searched, separated
from tests.store.definitions import NOW, flag, put

FIRST = Path(__file__).parent / "databases" / "first-schema.sql"
ALL = FlagFilter()
FLAGS = (
    flag(
        "banner",
        variants={"a": "x"},
        default="a",
        owner="web",
        tags=["ui", "Sale"],
        description="Summer 100% \u00c4PFEL",
    ),
    flag("checkout", owner="pay", kind="operational", tags=["ui"]),
    flag("limit", variants={"low": 1}, default="low", owner="pay", tags=["sale"]),
    flag("old", owner="web"),
    flag("search", enabled=False, description="Finds apples"),
)


@pytest.fixture
def listed(shop: Engine) -> Engine:
    """A shop with five flags, one of them archived, one off, one also in staging."""
    for each in FLAGS:
        put(shop, PutFlag(each))
    put(shop, ArchiveFlag("old", NOW))
    put(shop, PutFlag(replace(FLAGS[1], config=replace(FLAGS[1].config, enabled=False))), environment="staging")
    return shop


def _list(shop: Engine, wanted: FlagFilter = ALL, page: Page = Page(), *, configured_in: str = "") -> Listed:  # noqa: B008  (a value)
    with reading(shop) as connection:
        return list_flags(
            connection,
            project="shop",
            environments=["production", "staging"],
            configured_in=configured_in,
            wanted=wanted,
            page=page,
        )


def _keys(listed: Listed) -> list[str]:
    return [each.key for each in listed.flags]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ALL, ["banner", "checkout", "limit", "search"]),
        (FlagFilter(text="APPLES"), ["search"]),
        (FlagFilter(text="\u00e4pfel"), ["banner"]),
        (FlagFilter(text="0% "), ["banner"]),
        (FlagFilter(text="%"), ["banner"]),
        (FlagFilter(text="_"), []),
        (FlagFilter(text="ch"), ["checkout", "search"]),
        (FlagFilter(tags=("ui",)), ["banner", "checkout"]),
        (FlagFilter(tags=("ui", "Sale")), ["banner"]),
        (FlagFilter(tags=("sale",)), ["limit"]),
        (FlagFilter(tags=("u",)), []),
        (FlagFilter(tags=("ui\x1fSale",)), []),
        (FlagFilter(owner="pay"), ["checkout", "limit"]),
        (FlagFilter(owner="PAY"), []),
        (FlagFilter(kinds=("operational", "experiment")), ["checkout"]),
        (FlagFilter(types=("string", "integer")), ["banner", "limit"]),
        (FlagFilter(states={"production": True}), ["banner", "checkout", "limit"]),
        (FlagFilter(states={"production": False}), ["search"]),
        (FlagFilter(states={"production": True, "staging": False}), ["checkout"]),
        (FlagFilter(states={"staging": True}), []),
        (FlagFilter(archived=Archived.ONLY), ["old"]),
        (FlagFilter(archived=Archived.ONLY, states={"production": False}), ["old"]),
        (FlagFilter(archived=Archived.INCLUDED, owner="web"), ["banner", "old"]),
    ],
)
def test_a_filter_finds_what_it_says(listed: Engine, wanted: FlagFilter, expected: list[str]) -> None:
    """And the count is of all that fit."""
    found = _list(listed, wanted)

    assert (expected, len(expected)) == (_keys(found), found.total)


@pytest.mark.parametrize(
    ("order", "descending", "expected"),
    [
        (Order.KEY, True, ["search", "limit", "checkout", "banner"]),
        (Order.OWNER, False, ["search", "checkout", "limit", "banner"]),
        (Order.KIND, False, ["checkout", "banner", "limit", "search"]),
        (Order.TYPE, False, ["checkout", "search", "limit", "banner"]),
        (Order.VERSION, False, ["banner", "checkout", "limit", "search"]),
        (Order.VERSION, True, ["search", "limit", "checkout", "banner"]),
    ],
)
def test_a_list_is_sorted(listed: Engine, order: Order, descending: bool, expected: list[str]) -> None:
    """Equals by their keys; one page after the other gives the same as one large page."""
    assert expected == _keys(_list(listed, page=Page(order, descending)))
    paged: list[str] = []
    page = Page(order, descending, size=1)
    while True:
        found = _list(listed, page=page)
        paged += _keys(found)
        if found.is_last:
            break
        page = replace(page, after=(found.flags[-1].sorted_by, found.flags[-1].key))

    assert expected == paged


def test_flags_that_come_and_go_shift_nothing(listed: Engine) -> None:
    """What was on no page yet is on the next, whatever was added before it."""
    first = _list(listed, page=Page(size=2))
    put(listed, PutFlag(flag("aaa")), PutFlag(flag("zzz")))
    rest = _list(listed, page=Page(after=(first.flags[-1].sorted_by, first.flags[-1].key)))

    assert (["banner", "checkout"], ["limit", "search", "zzz"]) == (_keys(first), _keys(rest))


def test_an_environments_list_has_its_flags(listed: Engine) -> None:
    """Those that are configured there."""
    assert ["checkout"] == _keys(_list(listed, configured_in="staging"))


def test_configurations_are_told_with_their_versions(listed: Engine) -> None:
    """In each environment that has the flag."""
    put(listed, SetEnabled("checkout", False))
    (checkout,) = _list(listed, FlagFilter(text="checkout")).flags

    assert [("production", False, 8), ("staging", False, 2)] == [
        (each.environment, each.enabled, each.version) for each in checkout.configs
    ]


def test_the_shared_part_has_a_version_of_its_own(listed: Engine) -> None:
    """It grows with the shared part alone, and never goes back, not even when the flag is created anew."""

    def version() -> int:
        return _list(listed, FlagFilter(text="checkout")).flags[0].version

    first = version()
    put(listed, SetEnabled("checkout", False))
    assert first == version()
    put(listed, UpdateFlag("checkout", replace(FLAGS[1].flag, owner="new"), ("owner",)))
    second = version()

    assert first < second


def test_a_migrated_database_is_listed_as_a_new_one(tmp_path: Path) -> None:
    """What is searched for was copied out of the documents that were there."""
    connection = sqlite3.connect(tmp_path / "flagstaff.db")
    connection.executescript(FIRST.read_text(encoding="utf-8"))
    tagged = """UPDATE flag SET document = json_set(document, '$.tags', json('["a", "b"]')) WHERE key < 'd'"""
    connection.execute(tagged)
    connection.commit()
    connection.close()
    engine = open_engine(f"sqlite:///{tmp_path / 'flagstaff.db'}")
    migrate(engine)
    with reading(engine) as opened:
        flags = opened.execute(select(tables.flags)).mappings().all()
        configs = opened.execute(select(tables.flag_configs)).mappings().all()
    engine.dispose()
    documents = [json.loads(row["document"]) for row in flags]

    assert [searched(row["key"], doc.get("description", "")) for row, doc in zip(flags, documents, strict=True)] == [
        row["search"] for row in flags
    ]
    assert [separated(doc.get("tags", [])) for doc in documents] == [row["tags"] for row in flags]
    assert [json.loads(row["document"]).get("enabled", True) for row in configs] == [row["enabled"] for row in configs]
    assert {False, True} == {row["enabled"] for row in configs}
    assert all(row["version"] > 0 for row in flags) and any(row["tags"] for row in flags)
