"""Endpoints are kept with their secrets sealed, each in its place, and changed by one at a time."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text, update

from server.store.engine import reading, writing
from tests.webhooks.made import NOW, after, statuses
from tests.webhooks.subscribing import TOKEN, secret, subscribe, vault
from webhooks import limits, subscribed
from webhooks.errors import InvalidSetting, SealBroken
from webhooks.rotation import OVERLAP_S, Secret, keys_of, rotated, take_secret
from webhooks.signing import SigningKey, SymmetricKey
from webhooks.states import EndpointState
from webhooks.subscribed import Endpoint, Vault, find_endpoint, opened
from webhooks.tables import deliveries, endpoint_secrets, endpoints


def _add(engine: Engine, vault_: Vault, id_: str = "ep_1", *secrets: Secret, **fields: Any) -> Endpoint:
    with writing(engine) as connection:
        for each in secrets or (secret(),):
            subscribed.add_endpoint(
                connection,
                subscribe(headers={"Authorization": TOKEN}, **fields),
                each,
                id=id_,
                project="shop",
                since_sequence=3,
                vault=vault_,
                now=NOW,
            )
        found = find_endpoint(connection, id_)
    assert found is not None
    return found


def _found(engine: Engine, id_: str = "ep_1") -> Endpoint:
    with reading(engine) as connection:
        found = find_endpoint(connection, id_)
    assert found is not None
    return found


def test_what_is_kept_comes_back(engine: Engine) -> None:
    """All that was decided, and the secret that signs."""
    vault_ = vault()
    found = _add(engine, vault_, rate_per_s=2, retry_schedule=[0, 5], filter={"environments": ["production"]}, name="x")
    expected = subscribe(
        headers={"Authorization": TOKEN},
        rate_per_s=2,
        retry_schedule=[0, 5],
        filter={"environments": ["production"]},
        name="x",
    )

    assert (expected, (secret(),)) == (opened(found, vault_).subscription, opened(found, vault_).secrets)
    assert ("https://hooks.example.com/***", EndpointState.ENABLED, 1, 3) == (
        found.url_shown,
        found.state,
        found.version,
        found.since_sequence,
    )


def test_no_secret_is_readable_in_the_database(engine: Engine) -> None:
    """Not the URL's path, no header's value, no signing secret; nor in what may be logged of an endpoint."""
    found = _add(engine, vault())
    with reading(engine) as connection:
        rows = [*connection.execute(select(endpoints)), *connection.execute(select(endpoint_secrets))]
    told = f"{rows} {found!r}"

    assert not [each for each in ("T0PS3CR3T", "s3cr3t", secret().text[6:]) if each in told]


def test_a_secret_opens_in_its_own_place_only(engine: Engine) -> None:
    """What is copied to another endpoint or column by hand is refused."""
    vault_ = vault()
    first, second = _add(engine, vault_), _add(engine, vault_, "ep_2")

    for wrong in (replace(second, url_sealed=first.url_sealed), replace(first, url_sealed=first.headers_sealed)):
        with pytest.raises(SealBroken):
            opened(wrong, vault_)


def test_one_who_changes_it_wins(engine: Engine) -> None:
    """The other one's change is not kept."""
    vault_ = vault()
    before = _add(engine, vault_)
    with writing(engine) as connection:
        won = subscribed.change_endpoint(connection, before, subscribe(name="a"), vault=vault_, now=NOW)
        lost = subscribed.change_endpoint(connection, before, subscribe(name="b"), vault=vault_, now=NOW)
        late = subscribed.change_secrets(connection, before, [secret(2)], vault=vault_, now=NOW)
    after_ = _found(engine)

    assert (True, False, False) == (won, lost, late)
    assert ("a", 2, {}) == (after_.name, after_.version, opened(after_, vault_).subscription.headers)


def test_a_new_rate_begins_with_a_full_bucket(engine: Engine) -> None:
    """What was left of the old one says nothing."""
    vault_ = vault()
    before = _add(engine, vault_, rate_per_s=1)
    with writing(engine) as connection:
        connection.execute(update(endpoints).values(bucket_tokens=0.5))
        subscribed.change_endpoint(connection, before, subscribe(rate_per_s=1), vault=vault_, now=NOW)
        same = connection.execute(select(endpoints.c.bucket_tokens)).scalar()
        between = find_endpoint(connection, "ep_1")
        assert between is not None
        subscribed.change_endpoint(connection, between, subscribe(rate_per_s=2), vault=vault_, now=NOW)
        other = connection.execute(select(endpoints.c.bucket_tokens)).scalar()

    assert (0.5, None) == (same, other)


def test_a_rotation_overlaps(engine: Engine) -> None:
    """Both sign until it ends, the newest first; then only the new one."""
    vault_ = vault()
    before = _add(engine, vault_)
    known = opened(before, vault_).secrets
    with writing(engine) as connection:
        later = rotated(known, secret(2, asymmetric=True), overlap_s=OVERLAP_S, now=NOW)
        subscribed.change_secrets(connection, before, later, vault=vault_, now=NOW)
    kept = opened(_found(engine), vault_)

    assert [SigningKey, SymmetricKey] == [type(each) for each in kept.keys(after(OVERLAP_S - 1))]
    assert [SigningKey] == [type(each) for each in kept.keys(after(OVERLAP_S))]
    assert [("", NOW + timedelta(days=1)), (secret(2, asymmetric=True).public, None)] == [
        (each.public, each.expires_at) for each in kept.endpoint.secrets
    ]


def test_rotations_one_after_another() -> None:
    """None makes an old secret last longer, none signs with more than the bound, and none keeps what has expired."""
    first = rotated([secret(1)], secret(2), overlap_s=60, now=NOW)
    second = rotated(first, secret(3), overlap_s=600, now=NOW)
    many = tuple(secret(number) for number in range(1, limits.SECRETS_PER_ENDPOINT_MAX + 1))

    assert [after(60), after(600), None] == [each.expires_at for each in second]
    assert [3, 4] == [each.number for each in rotated(second, secret(4), overlap_s=60, now=after(700))][-2:]
    assert (secret(9),) == rotated(many, secret(9), overlap_s=0, now=NOW)
    for given, overlap_s in ((many, 60.0), ((secret(1),), -1.0), ((secret(1),), 8 * 86_400.0)):
        with pytest.raises(InvalidSetting):
            rotated(given, secret(9), overlap_s=overlap_s, now=NOW)


def test_a_secret_of_ones_own() -> None:
    """Only one that both sides share, and of the right length; what is wrong is told without it."""
    assert secret(2) == take_secret(2, secret(2).text, NOW)
    assert 1 == len(keys_of([take_secret(1, secret(1).text, NOW)], NOW))
    for text_ in ("whsec_c2hvcnQ=", secret(1, asymmetric=True).text, "plain"):
        with pytest.raises(InvalidSetting) as refused:
            take_secret(1, text_, NOW)
        assert text_ not in str(refused.value)


def test_what_is_deleted_leaves_no_secret(engine: Engine) -> None:
    """It goes at once, or stays without secrets while a delivery of it is kept; what was due is missed."""
    vault_ = vault()
    _add(engine, vault_), _add(engine, vault_, "ep_2")
    row = {"id": "d", "event_id": "e", "endpoint_id": "ep_1", "project": "shop", "sequence": 1, "event_type": "x"}
    with writing(engine) as connection:
        connection.execute(insert(deliveries).values(**row, due_at_ms=1, created_at_ms=1))
        for id_ in ("ep_1", "ep_2"):
            found = find_endpoint(connection, id_)
            assert found is not None
            subscribed.delete_endpoint(connection, found, NOW)
    with reading(engine) as connection:
        left = find_endpoint(connection, "ep_1")
        gone, listed = find_endpoint(connection, "ep_2"), subscribed.list_endpoints(connection, "shop")
        kept = connection.execute(select(endpoint_secrets)).all()

    assert (None, [], [], ["missed"]) == (gone, listed, kept, statuses(engine))
    assert left is not None and (True, "", "") == (left.deleted, left.url_sealed, left.headers_sealed)
    with writing(engine) as connection:
        before, _ = subscribed.remove_deleted(connection), connection.execute(text("DELETE FROM delivery"))
        assert (0, 1) == (before, subscribed.remove_deleted(connection))


def test_endpoints_in_pages(engine: Engine) -> None:
    """By id, each with its own secrets."""
    vault_ = vault()
    for id_ in ("ep_b", "ep_a", "ep_c"):
        _add(engine, vault_, id_)
    with reading(engine) as connection:
        first = subscribed.list_endpoints(connection, "shop", limit=2)
        rest = subscribed.list_endpoints(connection, "shop", after="ep_b")
        count = subscribed.count_endpoints(connection, "shop")

    assert (["ep_a", "ep_b"], ["ep_c"], 3) == ([each.id for each in first], [each.id for each in rest], count)
    assert [1, 1, 1] == [len(each.secrets) for each in (*first, *rest)]


def test_new_keys_take_over(engine: Engine) -> None:
    """All is sealed anew once, and then opens without the old key."""
    old, both, new = vault(b"o" * 32), vault(b"n" * 32, b"o" * 32), vault(b"n" * 32)
    _add(engine, old)
    with writing(engine) as connection:
        counts = [
            subscribed.reseal_endpoint(connection, each, both) for each in subscribed.list_endpoints(connection, "shop")
        ]
        again = [
            subscribed.reseal_endpoint(connection, each, both) for each in subscribed.list_endpoints(connection, "shop")
        ]

    assert ([3], [0], (secret(),)) == (counts, again, opened(_found(engine), new).secrets)
    with pytest.raises(SealBroken):
        opened(_found(engine), old)
