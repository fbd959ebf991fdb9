"""Tokens are kept, found, listed and ended on every kind of database, with an audit entry for each change."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from sqlalchemy import Engine

from server.core.access import Grant, Role, Scope
from server.core.audit import SERVER_TRAIL
from server.core.tokens import Token
from server.store.audit import list_entries, verify_chain
from server.store.engine import reading, writing
from server.store.projects import list_projects
from server.store.saving import Cause
from server.store.tokens import (
    StoredToken,
    add_token,
    change_token,
    count_tokens,
    fingerprint,
    has_tokens,
    list_tokens,
    load_tokens,
    note_used,
    read_token,
)
from tests.announced import announced, check_announced
from tests.store.definitions import NOW

WHY: Final = Cause("", "ann", NOW, "because", "", "r1")
SERVER: Final = Scope()
LONG_AGO: Final = NOW - timedelta(days=1_000)


def token(identifier: str, home: Scope = SERVER, **fields: object) -> Token:
    """A token."""
    grants = (Grant(Role.EDIT, "shop", "staging"), Grant(Role.READ, "shop"))
    return replace(Token(identifier, "ci", grants, home, NOW, "ann"), **fields)  # type: ignore[arg-type]


def add(engine: Engine, *tokens: Token) -> None:
    """Keep tokens."""
    with writing(engine) as connection:
        for each in tokens:
            add_token(connection, StoredToken(each, f"digest of {each.id}", "key"), WHY)


def test_a_token_comes_back(shop: Engine) -> None:
    """As it was, with what it takes to recognise it; the server itself is no project."""
    kept = token("a", expires_at=NOW + timedelta(days=1))
    with reading(shop) as connection:
        before = has_tokens(connection)
    add(shop, kept)
    with reading(shop) as connection:
        found = read_token(connection, "a", Scope())
        assert (False, True, ["shop"]) == (
            before,
            has_tokens(connection),
            [each.key for each in list_projects(connection)],
        )

    assert (kept, "digest of a", "key") == (found.token, found.digest, found.key_name)


def test_each_change_has_an_audit_entry(shop: Engine) -> None:
    """In the trail of the place where the token is managed, chained like all others, without its digest."""
    server, project = token("a"), token("b", Scope("shop"))
    add(shop, server, project)
    with writing(shop) as connection:
        change_token(connection, server, replace(server, revoked_at=NOW), event="token.revoked", cause=WHY)
    for trail, identifier, actions in (
        (SERVER_TRAIL, "a", ["token.revoked", "token.created"]),
        ("shop", "b", ["token.created"]),
    ):
        with reading(shop) as connection:
            entries = list_entries(connection, project=trail, subject=("token", identifier))
            assert [] == verify_chain(connection, project=trail)
        assert actions == [each.action for each in entries]
        assert ("ann", "because", "r1") == (entries[0].actor, entries[0].reason, entries[0].request_id)
        assert "digest" not in f"{entries}".replace("document", "")
    check_announced(shop)
    told = [(type_, data["token_id"]) for type_, data in announced(shop) if type_.startswith("token.")]
    assert [("token.created", "a"), ("token.revoked", "a"), ("token.created", "b")] == told


def test_tokens_are_listed_by_place(shop: Engine) -> None:
    """Those inside it too, by id, and only good ones where that is asked for."""
    add(
        shop,
        token("a"),
        token("b", Scope("shop")),
        token("c", Scope("shop", "staging")),
        token("d", Scope("shop", "production"), expires_at=NOW),
        token("e", Scope("shop"), revoked_at=NOW),
    )
    with reading(shop) as connection:
        listed = {
            (home.project, home.environment, good): [
                each.token.id for each in list_tokens(connection, home, good_at=NOW if good else None)
            ]
            for home in (Scope(), Scope("shop"), Scope("shop", "staging"))
            for good in (False, True)
        }
        counted = [count_tokens(connection, Scope("shop")), count_tokens(connection, Scope("shop"), good_at=NOW)]
        page = [each.token.id for each in list_tokens(connection, Scope(), after="b", limit=2)]

    assert {
        ("", "", False): list("abcde"),
        ("", "", True): list("abc"),
        ("shop", "", False): list("bcde"),
        ("shop", "", True): list("bc"),
        ("shop", "staging", False): ["c"],
        ("shop", "staging", True): ["c"],
    } == listed
    assert ([4, 2], ["c", "d"]) == (counted, page)


def test_what_ended_long_ago_is_not_loaded(shop: Engine) -> None:
    """Its users were told for long enough."""
    add(
        shop,
        token("a"),
        token("b", revoked_at=NOW),
        token("c", revoked_at=LONG_AGO),
        token("d", expires_at=LONG_AGO),
        token("e", expires_at=NOW, revoked_at=LONG_AGO),
    )
    with reading(shop) as connection:
        assert ["a", "b"] == sorted(each.token.id for each in load_tokens(connection, ended_after=LONG_AGO))


def test_a_change_shows_and_use_does_not(shop: Engine) -> None:
    """Whoever looks for changes is not bothered by use, of which the latest instant counts."""
    kept = token("a")
    prints = []
    with reading(shop) as connection:
        prints.append(fingerprint(connection))
    add(shop, kept)
    with reading(shop) as connection:
        prints.append(fingerprint(connection))
    for used_at in (NOW, NOW + timedelta(minutes=2), NOW + timedelta(minutes=1)):
        with writing(shop, tells=False) as connection:
            note_used(connection, {"a": used_at, "unknown": NOW})
    with reading(shop) as connection:
        prints.append(fingerprint(connection))
        used = read_token(connection, "a", Scope()).token.last_used_at

    assert (True, True) == (prints[0] != prints[1], prints[1] == prints[2])
    assert NOW + timedelta(minutes=2) == used
