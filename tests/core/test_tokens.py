"""A token's text is recognised, its grants are bounded, and it ends when it should."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.access import Grant, Role, Scope
from server.core.errors import InvalidRequest
from server.core.tokens import (
    Token,
    TokenKind,
    TokenState,
    check_token,
    derived_key,
    grants_of,
    key_name,
    kind_of,
    read_grant,
    read_id,
    shown_grant,
    stored_grants,
    token_digest,
    token_document,
    token_id,
    token_text,
)

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN: Final = Token("abcdEFGH", "ci", (Grant(Role.READ),), Scope(), NOW, "ann")


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32), st.sampled_from(TokenKind))
def test_a_token_is_read_back(chance: bytes, secret: bytes, kind: TokenKind) -> None:
    """Its public name, whatever the chance was; always 62 letters, digits and underscores."""
    text = token_text(kind, token_id(chance), secret=secret)

    assert token_id(chance) == read_id(text)
    assert re.fullmatch(r"ff[sca]_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}", text)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 61), st.sampled_from("0Aaz9"))
def test_a_changed_token_is_noticed(secret: bytes, place: int, letter: str) -> None:
    """Without a look at any table."""
    text = token_text(TokenKind.SERVER, "abcdEFGH", secret=secret)
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        return

    with pytest.raises(InvalidRequest):
        read_id(changed)


def test_two_secrets_make_two_tokens() -> None:
    """Also those that differ in their last bit only, and those that begin with zeros."""
    secrets = [bytes(32), bytes(31) + b"\1", b"\xff" * 32]

    assert 3 == len({token_text(TokenKind.CLIENT, "abcdEFGH", secret=secret) for secret in secrets})


@pytest.mark.parametrize("text", ["", "ffs_abc", "ffx_abcdEFGH_" + "a" * 49, "Bearer", "ffs_abcdEFGH_" + "é" * 49])
def test_what_is_no_token(text: str) -> None:
    """Is refused, and not repeated in the message."""
    with pytest.raises(InvalidRequest, match="no token of Flagstaff") as refused:
        read_id(text)

    assert not text or text not in str(refused.value)


def test_a_secret_of_another_length_is_a_mistake() -> None:
    """256 bits, no fewer."""
    with pytest.raises(ValueError, match="31 bytes"):
        token_text(TokenKind.SERVER, "abcdEFGH", secret=bytes(31))


def test_what_is_kept_depends_on_the_key() -> None:
    """Who has the database alone cannot try tokens; purposes do not share a key, and a name tells nothing of it."""
    one, two = derived_key(b"secret", "tokens"), derived_key(b"secret", "pages")

    assert token_digest(one, "x") != token_digest(two, "x")
    assert (64, 16) == (len(token_digest(one, "x")), len(key_name(one)))
    assert key_name(one) not in one.hex()


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        ([Role.EVALUATE_CLIENT], TokenKind.CLIENT),
        ([Role.EVALUATE], TokenKind.SERVER),
        ([Role.EVALUATE, Role.EVALUATE_CLIENT], TokenKind.SERVER),
        ([Role.EVALUATE, Role.READ], TokenKind.MANAGEMENT),
        ([Role.OPERATE], TokenKind.MANAGEMENT),
    ],
)
def test_the_prefix_follows_from_the_roles(roles: list[Role], kind: TokenKind) -> None:
    """By the most that the token may do."""
    assert kind is kind_of([Grant(role) for role in roles])


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        ("admin", Grant(Role.ADMIN)),
        ("edit@shop", Grant(Role.EDIT, "shop")),
        ("evaluate-client@shop/production", Grant(Role.EVALUATE_CLIENT, "shop", "production")),
    ],
)
def test_grants_are_written_and_read(text: str, grant: Grant) -> None:
    """In one form, which is also the one that is shown; stored, they come back the same."""
    assert (grant, text) == (read_grant(text), shown_grant(grant))
    assert (grant,) == grants_of(stored_grants([grant]))


@pytest.mark.parametrize("text", ["", "root", "ADMIN", "edit@", "edit@shop/", "edit@/production"])
def test_a_grant_that_is_none(text: str) -> None:
    """An empty place is never taken for every place."""
    with pytest.raises(InvalidRequest):
        read_grant(text)


@pytest.mark.parametrize(
    ("home", "text"),
    [
        (Scope("shop"), "read"),
        (Scope("shop"), "read@bank"),
        (Scope("shop", "staging"), "read@shop"),
        (Scope("shop", "staging"), "read@shop/production"),
    ],
)
def test_a_token_reaches_no_further_than_its_home(home: Scope, text: str) -> None:
    """Who manages a project cannot make a token for another one, or for the server."""
    with pytest.raises(InvalidRequest, match="reaches beyond"):
        check_token("ci", [read_grant(text)], home)


@pytest.mark.parametrize("home", [Scope(), Scope("shop"), Scope("shop", "staging")])
def test_a_token_within_its_home(home: Scope) -> None:
    """The place itself, and what is inside it."""
    check_token("ci", [Grant(Role.EDIT, "shop", "staging")], home)


@pytest.mark.parametrize(
    ("name", "grants"),
    [
        ("", [Grant(Role.READ)]),
        ("a\nb", [Grant(Role.READ)]),
        ("x" * 129, [Grant(Role.READ)]),
        ("ci", []),
        ("ci", [Grant(Role.READ)] * 33),
        ("ci", [Grant(Role.READ, None, "production")]),
        ("ci", [Grant(Role.READ, "", None)]),
        ("ci", [Grant(Role.READ, "shop", "")]),
        ("ci", [Grant(Role.READ, "Shop Ltd")]),
    ],
)
def test_a_token_that_says_nothing(name: str, grants: list[Grant]) -> None:
    """A name, a role, and places that can exist."""
    with pytest.raises(InvalidRequest):
        check_token(name, grants, Scope())


def test_a_token_ends() -> None:
    """At its instant exactly, and at once when it is revoked, whenever it would have expired."""
    ends = replace(TOKEN, expires_at=NOW + timedelta(seconds=1))
    revoked = replace(ends, revoked_at=NOW)

    assert TokenState.ACTIVE is TOKEN.state(NOW + timedelta(days=10_000))
    assert [TokenState.ACTIVE, TokenState.EXPIRED] == [ends.state(NOW + timedelta(seconds=each)) for each in (0.999, 1)]
    assert TokenState.REVOKED is revoked.state(NOW)


def test_the_audit_trail_says_who_and_what() -> None:
    """In words that `token create` takes, too."""
    document = token_document(replace(TOKEN, grants=(Grant(Role.EDIT, "shop", "staging"),)))

    assert ("abcdEFGH", "ci", ["edit@shop/staging"], None) == (
        document["id"],
        document["name"],
        document["roles"],
        document["revokedAt"],
    )
    assert "token:abcdEFGH" == TOKEN.principal.actor
