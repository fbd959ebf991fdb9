"""EnvironmentService over a real server: settings, clones, deletions, and who may do what."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import environments_pb2 as messages
from protos.flagstaff.v1 import tokens_pb2 as tokens
from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, PutSegment, UpdateEnvironment
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.core.keylists import key_list
from server.core.segments import Segment
from server.operations.freezes import permit_unless_frozen
from server.store.engine import reading
from server.store.flagsets import read_flag_set
from tests.rpc.asking import ServiceClient
from tests.rpc.conftest import Serve
from tests.rpc.managing import managing
from tests.store.definitions import NOW, at, flag, new_shop, put

HERE: Final = {"project": "shop", "environment": "production"}
UNKNOWN: Final[Any] = 99
SPLIT: Final = {"weights": {"on": 50, "off": 50}}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A database with project shop."""
    engine = new_shop(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def client(serve: Serve, shop: Engine) -> Iterator[ServiceClient]:
    """The service over the shop, with its freezes."""
    with managing(shop, policies=[permit_unless_frozen]) as (manager, table):
        manager.people["lead"] = Principal("token:lead", (Grant(Role.ADMIN, "shop"),))
        yield ServiceClient(serve, table, messages)


def stamp(text: str) -> Timestamp:
    """An instant."""
    found = Timestamp()
    found.FromJsonString(text)
    return found


def settings(**fields: Any) -> messages.EnvironmentSettings:
    """Settings of every kind."""
    given = messages.EnvironmentSettings(
        name="Live",
        critical=True,
        bucketing=messages.BUCKETING_V3,
        without_sync=True,
        approval_policy=messages.ApprovalPolicy(
            approvals=2, roles=[tokens.ROLE_APPROVE], actors=["oidc:ann"], covers=["flag"]
        ),
        freeze_windows=[
            messages.FreezeWindow(
                starts_at=stamp("2026-12-20T00:00:00Z"),
                ends_at=stamp("2027-01-02T00:00:00Z"),
                reason="Holidays",
                roles=[tokens.ROLE_ADMIN],
            )
        ],
    )
    given.metadata.update({"team": "web", "tier": 1})
    for name, value in fields.items():
        setattr(given, name, value)
    return given


async def test_an_environment_has_its_settings(client: ServiceClient) -> None:
    """What was set is told, whole."""
    made = await client.ask("CreateEnvironment", by="lead", project="shop", environment="canary", settings=settings())
    found = await client.ask("GetEnvironment", by="reader", project="shop", environment="canary")

    assert settings() == made.environment.settings == found.environment.settings
    assert ("shop", "canary", 1, 1, 0) == (
        found.environment.project,
        found.environment.key,
        found.environment.revision,
        found.environment.version,
        found.environment.flag_count,
    )
    assert ["environment canary: created"] == list(made.result.changes)


async def test_an_update_sets_what_its_mask_names(client: ServiceClient, shop: Engine) -> None:
    """Nothing else, and nothing at all without a mask."""
    put(shop, UpdateEnvironment(name="Live", metadata={"team": "web"}))
    done = await client.ask(
        "UpdateEnvironment",
        **HERE,
        settings=settings(name="ignored"),
        update_mask={"paths": ["critical", "without_sync"]},
    )
    empty = await client.refused("UpdateEnvironment", **HERE, settings=settings())
    unknown = await client.refused("UpdateEnvironment", **HERE, update_mask={"paths": ["source"]})
    environment = at(shop).environment

    assert ("Live", True, False, {"team": "web"}, ApprovalPolicy()) == (
        environment.name,
        environment.critical,
        environment.sync,
        environment.metadata,
        environment.approval_policy,
    )
    assert [
        "environment production: critical no -> yes",
        "environment production: sync to in-process clients yes -> no",
    ] == (sorted(done.result.changes))
    assert [grpc.StatusCode.INVALID_ARGUMENT] * 2 == [empty[0], unknown[0]]
    assert "what can be set is: name, critical, bucketing" in unknown[1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("approval_policy", messages.ApprovalPolicy(approvals=11), "/settings/approvalPolicy/approvals"),
        (
            "approval_policy",
            messages.ApprovalPolicy(approvals=1, roles=[UNKNOWN]),
            "'99' is not one of: approve, admin",
        ),
        ("freeze_windows", [messages.FreezeWindow(reason="x")], "/settings/freezeWindows/0/from"),
        ("freeze_windows", [messages.FreezeWindow(starts_at=Timestamp(seconds=10**15))], "1000000000000000 seconds"),
        ("bucketing", 7, "7 is no bucketing"),
        ("metadata", {"list": [1]}, "/settings/metadata/list"),
    ],
)
async def test_settings_that_are_wrong_are_refused(client: ServiceClient, field: str, value: Any, message: str) -> None:
    """With the path of what is wrong."""
    given = messages.EnvironmentSettings(**{field: value})
    found = await client.refused("UpdateEnvironment", **HERE, settings=given, update_mask={"paths": [field]})

    assert grpc.StatusCode.INVALID_ARGUMENT == found[0]
    assert message in found[1]


async def test_another_bucketing_says_whom_it_moves(client: ServiceClient, shop: Engine) -> None:
    """A dry run says the same and moves nobody."""
    put(shop, PutFlag(flag(default=SPLIT)), PutFlag(flag("plain")))
    change = {**HERE, "settings": settings(), "update_mask": {"paths": ["bucketing"]}}
    tried = await client.ask("UpdateEnvironment", **change, options=common.WriteOptions(dry_run=True))
    before = at(shop).environment.bucketing
    done = await client.ask("UpdateEnvironment", **change)
    again = await client.ask("UpdateEnvironment", **change)

    assert (["checkout"], 1_000) == (list(done.moved), done.sample_users)
    assert 300 < done.moved["checkout"] < 700
    assert dict(tried.moved) == dict(done.moved)
    assert "units are dealt anew: of 1000 sample users" in done.result.warnings[0]
    assert ("v2", "v3", 0) == (before, at(shop).environment.bucketing, again.sample_users)


async def test_a_stale_update_is_refused(client: ServiceClient) -> None:
    """Somebody else changed the settings in between."""
    change = {**HERE, "settings": settings(), "update_mask": {"paths": ["name"]}}
    await client.ask("UpdateEnvironment", **change, options=common.WriteOptions(expected_version=1))
    found = await client.refused("UpdateEnvironment", **change, options=common.WriteOptions(expected_version=1))

    assert (grpc.StatusCode.ABORTED, True) == (found[0], "has version 2, expected version 1" in found[1])


async def test_environments_are_listed(client: ServiceClient, shop: Engine) -> None:
    """With what is in them."""
    put(shop, PutFlag(flag()), PutSegment(Segment("s", keys=("a",))))
    page = await client.ask("ListEnvironments", by="reader", project="shop", page_size=1)
    rest = await client.ask("ListEnvironments", by="reader", project="shop", page_token=page.next_page_token)
    missing = await client.refused("ListEnvironments", project="none")

    assert [("production", 2, 1, 1), ("staging", 1, 0, 0)] == [
        (each.key, each.revision, each.flag_count, each.segment_count)
        for each in (*page.environments, *rest.environments)
    ]
    assert (2, "", grpc.StatusCode.NOT_FOUND) == (page.total_size, rest.next_page_token, missing[0])


async def test_a_clone_has_everything_of_the_other(client: ServiceClient, shop: Engine) -> None:
    """Flags with their salts, segments with a million keys or few, settings; not what belongs to the other alone."""
    window = FreezeWindow(NOW.replace(year=2020), NOW.replace(year=2021), "Past")
    put(
        shop,
        UpdateEnvironment(
            metadata={"flagSetId": "web", "team": "web"}, source="shop.json", freeze_windows=(window,), critical=True
        ),
        PutSegment(Segment("large", key_list=key_list(f"user-{number}" for number in range(10_001)))),
        PutSegment(Segment("few", keys=("alice",))),
        PutFlag(flag(rules=[{"id": "beta", "condition": {"$ref": "large"}, "serve": SPLIT, "share": {"percent": 5}}])),
    )
    request = {
        "project": "shop",
        "environment": "canary",
        "source_environment": "production",
        "name": "Canary",
        "options": common.WriteOptions(request_id="r1"),
    }
    made = await client.ask("CloneEnvironment", by="lead", **request)
    put(shop, PutFlag(flag("later")))
    again = await client.ask("CloneEnvironment", by="lead", **request)

    with reading(shop) as connection:
        one, other = (read_flag_set(connection, project="shop", environment=key) for key in ("production", "canary"))
    assert ({"canary": 1}, {"canary": 1}) == (made.result.revisions, again.result.revisions)
    assert (other.flags, other.segments) == ({"checkout": one.flags["checkout"]}, one.segments)
    assert "user-7" in (other.segments["large"].key_list or ())
    assert other.environment == replace(
        one.environment, key="canary", name="Canary", metadata={"team": "web"}, source="", freeze_windows=()
    )
    refused = await client.refused("CloneEnvironment", **{**request, "options": None, "source_environment": "none"})
    assert grpc.StatusCode.NOT_FOUND == refused[0]


async def test_an_environment_is_deleted_once_it_is_confirmed(client: ServiceClient, shop: Engine) -> None:
    """Not while it is critical; a repeated request gets its first answer."""
    put(shop, PutFlag(flag()), UpdateEnvironment(critical=True))
    delete = {**HERE, "confirm": "production", "options": common.WriteOptions(request_id="r1")}
    unconfirmed = await client.refused("DeleteEnvironment", **HERE)
    critical = await client.refused("DeleteEnvironment", **delete)
    put(shop, UpdateEnvironment(critical=False))
    done, again = [(await client.ask("DeleteEnvironment", by="lead", **delete)).result for _ in range(2)]

    assert (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION) == (unconfirmed[0], critical[0])
    assert {"production": 4} == done.revisions == again.revisions
    assert ["environment production: removed"] == list(done.changes)
    assert grpc.StatusCode.NOT_FOUND == (await client.refused("GetEnvironment", **HERE))[0]


async def test_settings_belong_to_administrators(client: ServiceClient) -> None:
    """An editor could else undo what protects an environment."""
    for method, more in (
        ("CreateEnvironment", {"environment": "canary"}),
        ("UpdateEnvironment", {"update_mask": {"paths": ["name"]}}),
        ("CloneEnvironment", {"environment": "canary", "source_environment": "production"}),
        ("DeleteEnvironment", {"confirm": "production"}),
    ):
        found = await client.refused(method, by="editor", **{**HERE, **more})
        assert (method, grpc.StatusCode.PERMISSION_DENIED) == (method, found[0])


async def test_a_freeze_is_ended_by_a_bypass_alone(client: ServiceClient, shop: Engine) -> None:
    """And lengthened by everyone who may change settings."""
    window = FreezeWindow(NOW, NOW.replace(year=2027), "Holidays")
    put(shop, UpdateEnvironment(freeze_windows=(window,)))
    current = (await client.ask("GetEnvironment", **HERE)).environment.settings
    mask = {"paths": ["freeze_windows"]}
    longer = messages.EnvironmentSettings(freeze_windows=[*current.freeze_windows, *settings().freeze_windows])
    more = await client.ask("UpdateEnvironment", by="lead", **HERE, settings=longer, update_mask=mask)
    none = messages.EnvironmentSettings()
    refused = await client.refused("UpdateEnvironment", by="lead", **HERE, settings=none, update_mask=mask)
    bypass = common.WriteOptions(bypass_approval=True, reason="The shop is down")
    ended = await client.ask("UpdateEnvironment", **HERE, settings=none, update_mask=mask, options=bypass)

    assert 2 == len(more.environment.settings.freeze_windows)
    assert grpc.StatusCode.FAILED_PRECONDITION == refused[0]
    assert 0 == len(ended.environment.settings.freeze_windows)
