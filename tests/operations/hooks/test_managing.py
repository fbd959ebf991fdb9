"""Hooks are made, changed, rotated and taken away once, by those who may, and nothing secret comes out again."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, select

from server.core.access import Grant, Principal, Role
from server.core.changes import DeleteEnvironment, DeleteProject, PutFlag
from server.core.errors import (
    Conflict,
    InvalidDefinition,
    NotFound,
    PermissionDenied,
    Refused,
    Stale,
    StoreCorrupt,
    TooLarge,
)
from server.operations.hooks.managing import Hooks, SecretWanted
from server.operations.writes import Outcome
from server.store import tables
from server.store.audit import list_entries
from server.store.engine import reading, writing
from tests.announced import check_announced
from tests.operations.hooking import HEADER, NARROW, READER, TOOL, URL, deliver, document, hooks_of, made, write
from tests.store.definitions import flag, put
from tests.webhooks.subscribing import secret, vault
from webhooks import limits
from webhooks.states import EndpointState, Status
from webhooks.subscribed import find_endpoint, opened
from webhooks.tables import deliveries, endpoints


def _problems(hooks: Hooks, **fields: Any) -> list[str]:
    with pytest.raises(InvalidDefinition) as refused:
        hooks.create("shop", document(**fields), SecretWanted(), write())
    return [each.path for each in refused.value.problems]


def _told(engine: Engine) -> list[str]:
    """Types of all events about hooks, in their order."""
    with reading(engine) as connection:
        rows = connection.execute(select(tables.outbox).order_by(tables.outbox.c.sequence)).mappings().all()
    return [row["type"] for row in rows if row["type"].startswith(("hook.", "webhook."))]


def test_a_new_hook(engine: Engine) -> None:
    """Its secret is told once; it gets what happens from now on."""
    hooks = hooks_of(engine)
    written = hooks.create("shop", document(name="n8n"), SecretWanted(), write(TOOL))
    endpoint = written.hook.endpoint
    with reading(engine) as connection:
        last = connection.execute(
            select(tables.projects.c.event_sequence).where(tables.projects.c.key == "shop")
        ).scalar()

    assert (Outcome.APPLIED, "whsec_", "n8n") == (written.outcome, written.secret[:6], endpoint.name)
    assert (last, "https://hooks.example.com/***") == (endpoint.since_sequence + 1, endpoint.url_shown)
    assert written.hook == hooks.read("shop", endpoint.id, READER)
    assert ["Authorization"] == list(written.hook.headers)


def test_keys_of_both_kinds(engine: Engine) -> None:
    """A secret of one's own is taken; of an Ed25519 key, which is made here, the public half is told."""
    hooks = hooks_of(engine)
    own = hooks.create("shop", document(), SecretWanted(secret().text), write())
    asymmetric = hooks.create("shop", document(), SecretWanted(asymmetric=True), write())

    assert (secret().text, "whpk_") == (own.secret, asymmetric.secret[:5])
    assert asymmetric.secret == asymmetric.hook.endpoint.secrets[0].public
    for wanted in (SecretWanted("short"), SecretWanted(secret().text, asymmetric=True)):
        with pytest.raises(InvalidDefinition, match="/secret"):
            hooks.create("shop", document(), wanted, write())


def test_what_is_wrong_is_told_with_its_path(engine: Engine) -> None:
    """Also environments that the project has not, and types that no event has."""
    hooks = hooks_of(engine)

    assert ["/event_types/0"] == _problems(hooks, event_types=["flag.exploded"])
    assert ["/filter/environments/1"] == _problems(hooks, filter={"environments": ["staging", "moon"]})
    assert ["/target_url"] == _problems(hooks, target_url="https://127.0.0.1/x")
    with pytest.raises(NotFound, match="market"):
        hooks.create("market", document(), SecretWanted(), write())


def test_nothing_secret_is_in_the_trail_or_the_feed(engine: Engine) -> None:
    """Whatever is done to a hook; and each entry has what its type says."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    hooks.update("shop", id_, {"headers": {"X-Key": HEADER}, "name": "x"}, write())
    secrets = [hooks.rotate("shop", id_, SecretWanted(), write()).secret, HEADER, URL.rpartition("/")[2]]
    hooks.disable("shop", id_, write()), hooks.enable("shop", id_, write()), hooks.delete("shop", id_, write())
    with reading(engine) as connection:
        entries = list_entries(connection, project="shop", limit=100)
        outbox = connection.execute(select(tables.outbox.c.payload)).scalars().all()
    told = f"{entries} {outbox}"

    assert not [each for each in secrets if each in told]
    assert [
        *("hook.created", "hook.updated", "hook.updated", "webhook.endpoint_disabled", "webhook.endpoint_recovered"),
        "hook.deleted",
    ] == _told(engine)
    assert {"open"} == {each.actor for each in entries if each.subject_kind == "hook"}
    check_announced(engine)


def test_the_trail_says_what_changed(engine: Engine) -> None:
    """Before and after, by whom and why."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    hooks.update("shop", id_, {"event_types": ["release.*"]}, write(TOOL, reason="fewer"))
    with reading(engine) as connection:
        entry = list_entries(connection, project="shop", limit=1)[0]
    before, after = json.loads(entry.before or ""), json.loads(entry.after or "")

    assert ("hook.updated", "token:tool", "fewer", id_) == (entry.action, entry.actor, entry.reason, entry.subject_key)
    assert (["flag.*"], ["release.*"]) == (before["event_types"], after["event_types"])


def test_a_change_keeps_what_it_does_not_name(engine: Engine) -> None:
    """Also what is secret; the same again changes nothing; an old version is refused."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    first = hooks.update("shop", id_, {"name": "a", "concurrency": 2}, write())
    again = hooks.update("shop", id_, {"name": "a"}, write())
    with reading(engine) as connection:
        endpoint = find_endpoint(connection, id_)
    assert endpoint is not None
    kept = opened(endpoint, hooks.vault()).subscription

    assert (URL, HEADER, 2) == (kept.url, kept.headers["Authorization"], kept.concurrency)
    assert (Outcome.APPLIED, 2, Outcome.UNCHANGED) == (first.outcome, first.hook.endpoint.version, again.outcome)
    with pytest.raises(Stale):
        hooks.update("shop", id_, {"name": "b"}, write(expected_version=1))


def test_a_rotation(engine: Engine) -> None:
    """Tells the new secret once, and lets the old one end."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    written = hooks.rotate("shop", id_, SecretWanted(), write(), overlap_s=60)

    assert [1, 2] == [each.number for each in written.hook.endpoint.secrets]
    assert [False, True] == [each.expires_at is None for each in written.hook.endpoint.secrets]
    assert "whsec_" == written.secret[:6]
    with pytest.raises(InvalidDefinition, match="/overlap_s"):
        hooks.rotate("shop", id_, SecretWanted(), write(), overlap_s=8 * 86_400)


def test_deleting_twice_is_no_error(engine: Engine) -> None:
    """Tools do so; it is gone from every list, and cannot be enabled again."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    deliver(engine, id_, Status.PENDING)
    done = [hooks.delete("shop", id_, write(dry_run=True)), hooks.delete("shop", id_, write())]

    assert [Outcome.WOULD_APPLY, Outcome.APPLIED] == done
    assert [Outcome.UNCHANGED, Outcome.UNCHANGED] == [hooks.delete("shop", each, write()) for each in (id_, "ep_other")]
    assert [] == hooks.list_all("shop", READER)
    for act in (hooks.enable, hooks.disable):
        with pytest.raises(NotFound):
            act("shop", id_, write())


def test_disabled_by_hand(engine: Engine) -> None:
    """What it had to get is missed; enabled again it goes on, and twice is no error."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    deliver(engine, id_, Status.PENDING)
    written = hooks.disable("shop", id_, write())
    with reading(engine) as connection:
        statuses = connection.execute(select(deliveries.c.status)).scalars().all()

    assert (EndpointState.DISABLED, "manual", ["missed"]) == (
        written.hook.endpoint.state,
        written.hook.endpoint.why,
        statuses,
    )
    assert Outcome.UNCHANGED is hooks.disable("shop", id_, write()).outcome
    assert EndpointState.ENABLED is hooks.enable("shop", id_, write()).hook.endpoint.state
    assert Outcome.UNCHANGED is hooks.enable("shop", id_, write()).outcome


def test_a_dry_run_changes_nothing(engine: Engine) -> None:
    """It says what would happen, and tells no secret."""
    hooks = hooks_of(engine)
    would = hooks.create("shop", document(), SecretWanted(), write(dry_run=True))

    assert (Outcome.WOULD_APPLY, "", []) == (would.outcome, would.secret, hooks.list_all("shop", READER))
    assert [] == _told(engine)


def test_a_request_that_is_sent_again(engine: Engine) -> None:
    """Makes one hook; its secret is not told again. The same id for another hook is refused."""
    hooks = hooks_of(engine)
    first = hooks.create("shop", document(), SecretWanted(), write(request_id="r1"))
    again = hooks.create("shop", document(), SecretWanted(), write(request_id="r1"))

    assert (first.hook, Outcome.UNCHANGED, "") == (again.hook, again.outcome, again.secret)
    assert 1 == len(hooks.list_all("shop", READER)) and "rotate" in again.warnings[0]
    with pytest.raises(Conflict):
        hooks.create("shop", document(name="other"), SecretWanted(), write(request_id="r1"))
    hooks.disable("shop", first.hook.endpoint.id, write(request_id="r2"))
    hooks.enable("shop", first.hook.endpoint.id, write())
    late = hooks.disable("shop", first.hook.endpoint.id, write(request_id="r2"))
    assert EndpointState.ENABLED is late.hook.endpoint.state


def test_a_narrow_token_gets_its_own_environment(engine: Engine) -> None:
    """It must name it, sees no other hook, and cannot widen its own."""
    hooks = hooks_of(engine)
    wide = made(hooks)
    mine = made(hooks, by=NARROW, filter={"environments": ["staging"]})

    for filter_ in ({}, {"environments": ["production"]}, {"environments": ["staging", "production"]}):
        with pytest.raises(PermissionDenied, match="subscribe"):
            hooks.create("shop", document(filter=filter_), SecretWanted(), write(NARROW))
    for wider in ({}, {"environments": ["production"]}):
        with pytest.raises(PermissionDenied):
            hooks.update("shop", mine, {"filter": wider}, write(NARROW))
    assert [mine] == [each.endpoint.id for each in hooks.list_all("shop", NARROW)]
    for act in (hooks.disable, hooks.enable):
        with pytest.raises(NotFound):
            act("shop", wide, write(NARROW))
    assert Outcome.UNCHANGED is hooks.delete("shop", wide, write(NARROW))
    assert 2 == len(hooks.list_all("shop", READER))


def test_who_may_only_look(engine: Engine) -> None:
    """Sees hooks, and changes none; who may nothing here does not learn that there is one."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    editor = Principal("token:editor", (Grant(Role.EDIT),))
    stranger = Principal("token:stranger", (Grant(Role.ADMIN, "market"),))

    for principal in (READER, editor):
        for act in (hooks.disable, hooks.delete):
            with pytest.raises(PermissionDenied):
                act("shop", id_, write(principal))
    with pytest.raises(NotFound):
        hooks.read("shop", id_, stranger)
    with pytest.raises(NotFound):
        hooks.read("market", id_, TOOL)


def test_a_lost_key(engine: Engine) -> None:
    """Hooks are still listed, without their headers' names; what needs their secrets says which key is missing."""
    id_ = made(hooks_of(engine))
    other = hooks_of(engine, vault_=vault(b"x" * 32))

    assert [()] == [each.headers for each in other.list_all("shop", READER)]
    with pytest.raises(StoreCorrupt, match="was sealed by a key that is not here"):
        other.update("shop", id_, {"name": "b"}, write())
    assert Outcome.APPLIED is other.delete("shop", id_, write())


def test_too_many(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is held against all of them, so there is a bound; a deleted one makes room."""
    monkeypatch.setattr(limits, "ENDPOINTS_PER_PROJECT_MAX", 1)
    hooks = hooks_of(engine)
    id_ = made(hooks)

    with pytest.raises(TooLarge):
        made(hooks)
    hooks.delete("shop", id_, write())
    made(hooks)


def test_a_place_with_hooks_stays(engine: Engine) -> None:
    """A later place of that key is another one: hooks must not be told of it."""
    hooks = hooks_of(engine)
    id_ = made(hooks, filter={"environments": ["staging"]})

    with pytest.raises(Refused, match=id_):
        put(engine, DeleteEnvironment(), environment="staging")
    hooks.delete("shop", id_, write())
    put(engine, DeleteEnvironment(), environment="staging")
    made(hooks)
    put(engine, DeleteEnvironment())
    with pytest.raises(Refused, match="hooks are told"):
        put(engine, DeleteProject(), environment="")


def test_two_change_it_at_once(engine: Engine) -> None:
    """The second finds another version than it read, and changes nothing."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    with writing(engine) as connection:
        endpoint = find_endpoint(connection, id_)
        connection.execute(endpoints.update().values(version=7))
    assert endpoint is not None

    with pytest.raises(Stale):
        hooks.rotate("shop", id_, SecretWanted(), write(expected_version=endpoint.version))
    put(engine, PutFlag(flag()))
