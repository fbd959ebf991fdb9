"""Reading: by noun, by key, as it was, as it changed."""

from typing import Any, Final

import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen

from server.core.changes import PutFlag, PutSegment, RemoveFlag, UpdateEnvironment
from server.core.environments import Project
from server.core.errors import InvalidDefinition, NotFound
from server.store.audit import list_entries
from server.store.engine import reading
from server.store.environments import list_environments, read_environment
from server.store.flagsets import Touched, load_documents, read_flag_set, touched_since
from server.store.projects import list_projects
from server.store.revisions import list_revisions, load_documents_at, read_revision
from tests.store.definitions import KINDS, NOW, ON_SQLITE, behind_our_back, flag, put, segment

HERE: Final[dict[str, Any]] = {"project": "shop", "environment": "production"}


def test_projects_and_environments_are_listed(shop: Engine) -> None:
    """With the revision that each environment is at."""
    put(shop, PutFlag(flag()))

    with reading(shop) as connection:
        found = [(each.environment.flag_set, each.revision) for each in list_environments(connection)]
        assert [Project("shop")] == list_projects(connection)
    assert [("shop/production", 2), ("shop/staging", 1)] == found


def test_a_missing_environment_names_the_others(shop: Engine) -> None:
    """The message helps to find the right name."""
    with pytest.raises(NotFound, match="there is: shop/production, shop/staging"), reading(shop) as connection:
        read_environment(connection, project="shop", environment="prod")


def test_some_documents_are_read_by_key(shop: Engine) -> None:
    """Chosen keys, without those that do not exist; None means all."""
    put(shop, PutFlag(flag("a")), PutFlag(flag("b")), PutSegment(segment("s", True)))

    with reading(shop) as connection:
        some = load_documents(connection, **HERE, flags=["a", "none"], segments=[])
        whole = load_documents(connection, **HERE)
    assert (["a"], [], ["a", "b"], ["s"]) == (
        list(some.flags), list(some.segments), list(whole.flags), list(whole.segments),
    )  # fmt: skip


def test_what_commits_touched_is_known(shop: Engine) -> None:
    """Everything since a revision, removed things too, each once."""
    put(shop, PutFlag(flag("a")), PutFlag(flag("b")))
    put(shop, PutFlag(flag("a", default="on")), RemoveFlag("b"))
    put(shop, UpdateEnvironment(metadata={"team": "web"}))

    with reading(shop) as connection:
        assert Touched(4, frozenset({"a", "b"}), frozenset(), True) == touched_since(connection, **HERE, revision=2)
        assert Touched(4) == touched_since(connection, **HERE, revision=4)


@ON_SQLITE
def test_what_commits_touched_is_found_without_the_history_before_them(shop: Engine) -> None:
    """It is asked after each commit, by every process, however long the history is."""
    asked: list[tuple[str, Any]] = []
    listen(shop, "before_cursor_execute", lambda _1, _2, statement, values, *_: asked.append((statement, values)))

    with reading(shop) as connection:
        touched_since(connection, **HERE, revision=1)
        statement, values = next(each for each in asked if "FROM revision" in each[0])
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert "project=? AND environment=? AND revision>?" in str(plan)


def test_every_revision_stays_readable(shop: Engine) -> None:
    """A flag as of any revision, also after it was removed."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag("other")))
    put(shop, PutFlag(flag(default="on")))
    put(shop, RemoveFlag("checkout"))

    with reading(shop) as connection:
        history = list_revisions(connection, **HERE, key="checkout")
        as_of = [
            (read_revision(connection, **HERE, key="checkout", revision=n).document or {})["default"] for n in (2, 3, 4)
        ]
        with pytest.raises(NotFound, match="flag 'checkout' is not in revision 5"):
            read_revision(connection, **HERE, key="checkout", revision=5)
    assert [(2, True), (4, True), (5, False)] == [(each.revision, each.document is not None) for each in history]
    assert ["off", "off", "on"] == as_of
    assert NOW == history[0].at


def test_a_whole_environment_stays_readable(shop: Engine) -> None:
    """All flags, segments and the environment itself, as of a revision."""
    put(shop, PutFlag(flag("a")), PutSegment(segment("s", True)), UpdateEnvironment(name="Live"))
    put(shop, RemoveFlag("a"), PutFlag(flag("b")), UpdateEnvironment(name="Life"))

    with reading(shop) as connection:
        past = load_documents_at(connection, **HERE, revision=2)
        with pytest.raises(NotFound, match="has revisions 1 to 3, asked for 4"):
            load_documents_at(connection, **HERE, revision=4)
    assert ("Live", ["a"], ["s"]) == (past.environment.name, list(past.flags), list(past.segments))


DAMAGE = ("''", "'[1]'", "'null'", "'{\"a\": 1'")
# PostgreSQL lets nothing into a text column that is none.
DAMAGE_BY_KIND = {"sqlite": (*DAMAGE, "x'ff'", "7"), "postgresql": DAMAGE}


@pytest.mark.parametrize(
    ("kind", "damage"), [(kind, each) for kind in KINDS for each in DAMAGE_BY_KIND[kind]], indirect=["kind"]
)
def test_a_damaged_document_is_marked(shop: Engine, damage: str) -> None:
    """What is no JSON object is None; its neighbours are read as ever."""
    put(shop, PutFlag(flag("a")), PutFlag(flag("b")), PutSegment(segment("s", True)))
    with behind_our_back(shop) as connection:
        connection.execute(f"UPDATE flag_config SET document = {damage} WHERE key = 'a'")
        connection.execute(f"UPDATE segment SET document = {damage}")

    with reading(shop) as ours:
        loaded = load_documents(ours, **HERE)
        with pytest.raises(InvalidDefinition, match="/flags/a: the stored definition is not a JSON object"):
            read_flag_set(ours, **HERE)
    assert (None, {"s": None}) == (loaded.flags["a"], loaded.segments)
    assert loaded.flags["b"] is not None


def test_a_deep_document_is_marked(shop: Engine) -> None:
    """Nesting beyond the stack is damage, not a crash."""
    put(shop, PutFlag(flag()))
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE flag SET document = ?", ["[" * 100_000])

    with reading(shop) as ours:
        assert {"checkout": None} == load_documents(ours, **HERE).flags


def test_damaged_metadata_is_dropped(shop: Engine) -> None:
    """No answer depends on it, so the environment is still served."""
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE environment SET metadata_document = 'oops'")

    with reading(shop) as ours:
        assert {} == read_environment(ours, **HERE).environment.metadata


def test_audit_entries_are_listed_by_page(shop: Engine) -> None:
    """The newest first; by subject, and on from where a page ended."""
    for default in ("on", "off", "on"):
        put(shop, PutFlag(flag(default=default)))

    with reading(shop) as connection:
        first = list_entries(connection, project="shop", subject=("flag", "checkout"), limit=2)
        rest = list_entries(connection, project="shop", environment="production", before_sequence=5)
    assert [(6, "flag.updated"), (5, "flag.updated")] == [(entry.sequence, entry.action) for entry in first]
    assert [4, 2] == [entry.sequence for entry in rest]
