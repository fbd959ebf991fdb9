"""ProjectService over a real server: create, read, list, change and delete projects."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import projects_pb2 as messages
from server.core.access import Grant, Principal, Role, Scope
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import FreezeWindow
from server.operations.freezes import permit_unless_frozen
from server.operations.tokens import NewToken, Tokens
from server.store.audit import list_entries, verify_chain
from server.store.engine import reading
from server.store.projects import list_projects
from tests.rpc.access import as_admin
from tests.rpc.asking import ServiceClient
from tests.rpc.conftest import Serve
from tests.rpc.managing import managing
from tests.store.definitions import NOW, flag, new_shop, put


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
        manager.people["tester"] = Principal("token:tester", (Grant(Role.READ, "shop", "staging"),))
        yield ServiceClient(serve, table, messages)


async def test_a_project_comes_with_its_environments(client: ServiceClient, shop: Engine) -> None:
    """Three of them, unless told otherwise; one commit, with its reason in the trail."""
    options = common.WriteOptions(reason="A new team")
    made = await client.ask("CreateProject", project="garden", name="Garden", options=options)
    few = await client.ask("CreateProject", project="few", environments=["live"])
    none = await client.ask("CreateProject", project="none", without_environments=True)

    assert ["development", "production", "staging"] == sorted(made.project.environments)
    assert {"development": 1, "staging": 1, "production": 1} == made.result.revisions
    assert (["live"], []) == (list(few.project.environments), list(none.project.environments))
    with reading(shop) as connection:
        trail = list_entries(connection, project="garden")
    assert ["project.created", *["environment.created"] * 3] == [entry.action for entry in reversed(trail)]
    assert {"A new team"} == {entry.reason for entry in trail}


async def test_a_dry_run_creates_nothing(client: ServiceClient, shop: Engine) -> None:
    """It says what it would do."""
    tried = await client.ask("CreateProject", project="garden", options=common.WriteOptions(dry_run=True))

    assert (common.OUTCOME_WOULD_APPLY, False) == (tried.result.outcome, tried.HasField("project"))
    with reading(shop) as connection:
        assert ["shop"] == [project.key for project in list_projects(connection)]


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "CreateProjectRequest needs project"),
        ({"project": "Shop"}, grpc.StatusCode.INVALID_ARGUMENT, "project key: 'Shop' does not name a project"),
        ({"project": "shop"}, grpc.StatusCode.ALREADY_EXISTS, "project 'shop' exists already"),
        ({"project": "a", "environments": ["x", "x"]}, grpc.StatusCode.INVALID_ARGUMENT, "one part for each"),
        ({"project": "a", "environments": [""]}, grpc.StatusCode.INVALID_ARGUMENT, "environments are named by a key"),
        (
            {"project": "a", "environments": ["x"], "without_environments": True},
            grpc.StatusCode.INVALID_ARGUMENT,
            "choose one of them",
        ),
    ],
)
async def test_what_cannot_be_created_is_refused(
    client: ServiceClient, fields: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    """With what is wrong."""
    found = await client.refused("CreateProject", **fields)

    assert code == found[0]
    assert message in found[1]


async def test_a_project_is_created_by_an_administrator_of_the_server(client: ServiceClient) -> None:
    """One of another project may not."""
    found = await client.refused("CreateProject", by="lead", project="garden")

    assert grpc.StatusCode.PERMISSION_DENIED == found[0]


async def test_projects_are_listed_by_page(client: ServiceClient) -> None:
    """In either order; each caller sees what they may read."""
    for key in ("a", "b", "c"):
        await client.ask("CreateProject", project=key, environments=["live"])
    first = await client.ask("ListProjects", page_size=3)
    second = await client.ask("ListProjects", page_size=3, page_token=first.next_page_token)
    back = await client.ask("ListProjects", order_by="key desc", page_size=2)
    mine = await client.ask("ListProjects", by="tester")

    assert [["a", "b", "c"], ["shop"], ["shop", "c"]] == [
        [project.key for project in page.projects] for page in (first, second, back)
    ]
    assert (4, "") == (first.total_size, second.next_page_token)
    assert [("shop", ["staging"])] == [(project.key, list(project.environments)) for project in mine.projects]


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_token": "!"}, {"page_token": "é"}, {"order_by": "name"}])
async def test_a_page_that_is_none_is_refused(client: ServiceClient, fields: dict[str, Any]) -> None:
    """Rather than another one."""
    assert grpc.StatusCode.INVALID_ARGUMENT == (await client.refused("ListProjects", **fields))[0]


async def test_a_project_is_renamed_and_described(client: ServiceClient) -> None:
    """What the mask names; at the version that was read."""
    both = await client.ask("UpdateProject", by="lead", project="shop", name="Shop", description="All of it")
    name = await client.ask(
        "UpdateProject",
        project="shop",
        name="Store",
        update_mask={"paths": ["name"]},
        options=common.WriteOptions(expected_version=both.project.version),
    )
    stale = await client.refused(
        "UpdateProject", project="shop", options=common.WriteOptions(expected_version=both.project.version)
    )
    unknown = await client.refused("UpdateProject", project="shop", update_mask={"paths": ["key"]})

    assert ("Store", "All of it") == (name.project.name, name.project.description)
    assert ['project shop: name "Shop" -> "Store"'] == list(name.result.changes)
    assert (grpc.StatusCode.ABORTED, grpc.StatusCode.INVALID_ARGUMENT) == (stale[0], unknown[0])
    assert "update_mask names key; what can be set is: name, description" in unknown[1]


async def test_a_project_is_deleted_with_all_that_is_in_it(client: ServiceClient, shop: Engine) -> None:
    """One commit; a repeated request gets its first answer; the trail stays and is whole."""
    put(shop, PutFlag(flag()))
    delete = {"project": "shop", "confirm": "shop", "options": common.WriteOptions(request_id="r1")}
    done, again = [(await client.ask("DeleteProject", by="lead", **delete)).result for _ in range(2)]

    assert {"production": 3, "staging": 2} == done.revisions == again.revisions
    assert grpc.StatusCode.NOT_FOUND == (await client.refused("GetProject", project="shop"))[0]
    assert [] == list((await client.ask("ListProjects")).projects)
    with reading(shop) as connection:
        assert [] == verify_chain(connection, project="shop")
        assert "project.deleted" == list_entries(connection, project="shop")[0].action


async def test_a_deletion_is_confirmed_by_the_key(client: ServiceClient) -> None:
    """What it deletes does not come back."""
    found = await client.refused("DeleteProject", project="shop", confirm="shopp")

    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (found[0], "confirm it by its key; 'shopp'" in found[1])


async def test_what_stands_in_the_way_of_a_deletion(client: ServiceClient, shop: Engine) -> None:
    """A critical environment, a frozen one, and a token that would open a later project of that key."""
    delete = {"project": "shop", "confirm": "shop"}
    put(shop, UpdateEnvironment(critical=True))
    critical = await client.refused("DeleteProject", **delete)
    window = FreezeWindow(NOW, NOW + timedelta(days=1), "Holidays")
    put(shop, UpdateEnvironment(critical=False, freeze_windows=(window,)))
    frozen = await client.refused("DeleteProject", **delete)
    put(shop, UpdateEnvironment(freeze_windows=()))
    tokens = Tokens(shop, lambda: b"a secret key of the server's tests")
    minted = tokens.create(NewToken("ci", (Grant(Role.EDIT, "shop"),), Scope()), as_admin(now=NOW))
    bound = await client.refused("DeleteProject", **delete)
    tokens.revoke(minted.token.id, Scope(), as_admin(now=NOW))
    done = await client.ask("DeleteProject", **delete)

    assert [grpc.StatusCode.FAILED_PRECONDITION] * 3 == [critical[0], frozen[0], bound[0]]
    assert "environment 'shop/production' is critical" in critical[1]
    assert "is frozen until 2026-01-02 12:00 UTC: Holidays" in frozen[1]
    assert f"1 tokens are bound to 'shop' ({minted.token.id})" in bound[1]
    assert common.OUTCOME_APPLIED == done.result.outcome
