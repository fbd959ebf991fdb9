"""Access tokens of a real issuer: good ones are taken, all others are refused, and its absence harms nobody."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from server.core.access import OPEN, Grant, Role
from server.core.claims import IssuerTrust, read_rule
from server.core.errors import StoreUnavailable, Unauthenticated
from server.live.callers import Caller
from server.live.issuer import REMEMBERED_MAX, Issuer
from tests.oidc.conftest import Running, wait_until

RULES = (
    "groups=admins:admin",
    "groups=shop-team:edit@shop",
    "scope=flags:evaluate:evaluate",
    "realm.roles=qa:read@shop/staging",
)


def trust(issuer: Running, **options: Any) -> IssuerTrust:
    """What these tests take."""
    given = {"audiences": ("flagstaff",), "algorithms": ("RS256", "ES256", "EdDSA"), **options}
    return IssuerTrust(issuer.address, rules=tuple(map(read_rule, RULES)), **given)


@pytest.fixture
def ours(issuer: Running) -> Issuer:
    """What takes its tokens, with its keys."""
    ours = Issuer(trust(issuer))
    ours.fetch()
    return ours


def grants(ours: Issuer, token: str) -> set[Grant]:
    """What a token's owner may do."""
    return set(ours.caller(token, time.time()).principal.grants)


def refusal(ours: Issuer, token: str, now: float | None = None) -> str:
    """Why a token is not taken."""
    with pytest.raises(Unauthenticated) as refused:
        ours.caller(token, time.time() if now is None else now)
    assert token not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("key", ["rsa", "ec", "ed"])
def test_a_good_token(issuer: Running, ours: Issuer, key: str) -> None:
    """By any of its kinds of keys; verified once, and the same caller from then on."""
    token = issuer.token(key=key, groups=["admins"])
    caller = ours.caller(token, time.time())

    assert ("oidc:ann", (Grant(Role.ADMIN),)) == (caller.principal.actor, caller.principal.grants)
    assert caller is ours.caller(token, time.time())


def test_claims_become_roles(issuer: Running, ours: Issuer) -> None:
    """Lists, one text, the words of a scope, and what lies deeper; without any there are none."""
    edit, evaluate = Grant(Role.EDIT, "shop"), Grant(Role.EVALUATE)
    found = [
        grants(ours, issuer.token(**claims))
        for claims in (
            {"groups": ["shop-team", "others", 7, None]},
            {"groups": "shop-team"},
            {"groups": "shop-team admins"},
            {"scope": "openid flags:evaluate"},
            {"realm": {"roles": ["qa"]}},
            {"realm": ["roles"]},
            {},
        )
    ]

    assert [{edit}, {edit}, set(), {evaluate}, {Grant(Role.READ, "shop", "staging")}, set(), set()] == found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"iss": "https://elsewhere.example.com"}, "issuer"),
        ({"aud": "another service"}, "udience"),
        ({"aud": ["a", "b"]}, "udience"),
        ({"exp": 1_000}, "expired"),
        ({"nbf": int(time.time()) + 3_600}, "not yet valid"),
        ({"without": "exp"}, "exp"),
        ({"without": "aud"}, "aud"),
        ({"without": "iss"}, "iss"),
        ({"without": "sub"}, "sub"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "x" * 300}, "subject"),
        ({"header": {"kid": "unknown"}}, "did not have"),
        ({"header": {"kid": "shared"}}, "did not have"),
        ({"header": {"kid": "ec"}}, "not good"),
        ({"header": {"crit": ["b64"], "b64": False}}, "not good"),
        ({"key": "rsa", "algorithm": "PS256"}, "signed by 'PS256'"),
        ({"key": "rsa2"}, "did not have"),
        ({"key": "rsa2", "header": {"kid": "rsa"}}, "not good"),
    ],
)
def test_a_token_that_is_not_good(issuer: Running, ours: Issuer, options: dict[str, Any], said: str) -> None:
    """For somebody else, too old, too new, incomplete, or signed in a way that was not agreed on."""
    assert said in refusal(ours, issuer.token(**options))


def test_no_token_chooses_how_it_is_verified(issuer: Running, ours: Issuer) -> None:
    """Neither unsigned, nor by the public key as if it were a shared secret, nor by a key of its own."""
    head, body, signature = issuer.token(groups=["admins"]).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    unsigned = jwt.encode(claims, "", "none", {"kid": "rsa"})
    secret = jwt.encode(claims, b"a shared secret of some length or so", "HS256", {"kid": "rsa"})
    own_key = base64.urlsafe_b64encode(
        json.dumps({"alg": "RS256", "kid": "rsa2", "jku": f"{issuer.address}/jwks"}).encode()
    )
    other = ".".join((own_key.decode().rstrip("="), body, signature))
    changed = ".".join(
        (head, base64.urlsafe_b64encode(json.dumps({**claims, "sub": "x"}).encode()).decode(), signature)
    )
    for token in (unsigned, secret, other, changed, "a.b.c", "...", "x", head, f"{head}.{body}.", "é.é.é"):
        assert refusal(ours, token)


def test_a_token_ends(issuer: Running, ours: Issuer) -> None:
    """Also one that was verified before; clocks may differ by half a minute."""
    token = issuer.token()
    caller = ours.caller(token, time.time())

    assert "has expired" in refusal(ours, token, time.time() + 631)
    assert "" == caller.problem(time.time() + 620)


def test_before_keys_were_fetched(issuer: Running) -> None:
    """Nobody is refused for good."""
    with pytest.raises(StoreUnavailable, match="ask again"):
        Issuer(trust(issuer)).caller(issuer.token(), time.time())


def test_a_key_that_was_taken_back(issuer: Running, ours: Issuer) -> None:
    """Ends those that it vouched for, their streams too; tokens of other keys stay good."""
    gone, stays = issuer.token(key="rsa"), issuer.token(key="ec")
    caller, other = (ours.caller(token, time.time()) for token in (gone, stays))
    issuer.post("/keys", ["ec", "rsa2"])
    ours.fetch()

    assert ("", True) == (other.problem(0), "took back" in caller.problem(0))
    assert "did not have" in refusal(ours, gone)
    assert "oidc:ann" == ours.caller(issuer.token(key="rsa2"), time.time()).principal.actor


@pytest.fixture
def following(issuer: Running) -> Iterator[Issuer]:
    """One whose thread runs."""
    following = Issuer(trust(issuer), retry_s=0.02, wanted_s=0.02)
    following.start()
    yield following
    following.stop()


def test_a_new_key_is_fetched_when_it_is_needed(issuer: Running, following: Issuer) -> None:
    """The first token by it is refused and has the issuer asked; soon they are taken."""
    wait_until(lambda: _is_taken(following, issuer.token()))
    issuer.post("/keys", ["rsa2"])
    token = issuer.token(key="rsa2")

    wait_until(lambda: _is_taken(following, token))


def test_the_last_keys_outlive_the_issuer(issuer: Running, following: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """While it does not answer, known keys stay good, and the log says so once."""
    wait_until(lambda: _is_taken(following, issuer.token()))
    token, unknown = issuer.token(), issuer.token(header={"kid": "unknown"})
    issuer.post("/break", True)
    assert not _is_taken(following, unknown)
    wait_until(lambda: any("stay good" in each.message for each in caplog.records))

    assert _is_taken(following, token)
    before = issuer.fetched()
    issuer.post("/break", False)
    wait_until(lambda: issuer.fetched() > before)
    assert 1 == sum("stay good" in each.message for each in caplog.records)


def test_an_issuer_that_is_another(issuer: Running) -> None:
    """Its own name must be the one that is trusted, letter by letter."""
    ours = Issuer(trust(Running(issuer.address.replace("127.0.0.1", "localhost"))))

    with pytest.raises(ValueError, match="calls itself"):
        ours.fetch()


def test_memory_is_bounded(issuer: Running, ours: Issuer) -> None:
    """However many good tokens come by."""
    ours._known = {place.to_bytes(4): (Caller(OPEN), "rsa") for place in range(REMEMBERED_MAX)}
    ours.caller(issuer.token(), time.time())

    assert REMEMBERED_MAX == len(ours._known)


def _is_taken(ours: Issuer, token: str) -> bool:
    try:
        ours.caller(token, time.time())
    except (Unauthenticated, StoreUnavailable):
        return False
    return True
