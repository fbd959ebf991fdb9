"""Projects and environments come, change and go; what was done in them stays."""

import pytest
from sqlalchemy import Engine

from server.core.access import Grant, Role, Scope
from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    DeleteEnvironment,
    DeleteProject,
    PutFlag,
    PutSegment,
    UpdateEnvironment,
    UpdateProject,
)
from server.core.environments import Project
from server.core.errors import Conflict, InvalidRequest, NotFound, Refused, Stale
from server.core.events import EnvironmentDeleted, ProjectDeleted
from server.core.tokens import Token
from server.store.audit import list_entries, verify_chain
from server.store.commit import Committed
from server.store.engine import reading, writing
from server.store.environments import list_environments
from server.store.flagsets import touched_since
from server.store.projects import list_projects, read_project
from server.store.revisions import list_revisions, load_documents_at
from server.store.saving import Cause
from server.store.tokens import StoredToken, add_token, read_token
from server.store.versions import read_project_version, read_versions
from tests.store.definitions import NOW, SHOP, at, flag, put, segment, stored


def put_project(engine: Engine, *changes: Change, **options: object) -> Committed:
    """Commit to the shop itself."""
    return put(engine, *changes, environment="", **options)


def delete_all(engine: Engine) -> None:
    """Delete the shop with its environments."""
    for name in ("production", "staging"):
        put(engine, DeleteEnvironment(), environment=name)
    put_project(engine, DeleteProject())


def test_a_project_is_renamed_and_described(shop: Engine) -> None:
    """Its version is the last entry of the audit trail that is about it."""
    put_project(shop, UpdateProject(name="Shop", description="All of it"))

    with reading(shop) as connection:
        assert [Project("shop", "Shop", "All of it")] == list_projects(connection)
        version = read_project_version(connection, "shop")
        entry = list_entries(connection, project="shop", subject=("project", "shop"))[0]
    assert (version, "project.updated", "") == (entry.sequence, entry.action, entry.environment)
    assert '{"name":"Shop","description":"All of it"}' == entry.after


def test_a_stale_change_of_a_project_is_refused(shop: Engine) -> None:
    """Somebody else changed it in between."""
    put_project(shop, UpdateProject(name="A"), expected_versions={("project", "shop"): 1})
    with pytest.raises(Stale, match="project 'shop' in 'shop' has version 4, expected version 1"):
        put_project(shop, UpdateProject(name="B"), expected_versions={("project", "shop"): 1})


def test_an_environment_goes_with_all_that_it_has(shop: Engine) -> None:
    """One event; of each thing the revision says that it is gone, so that readers by revision see it."""
    put(shop, PutFlag(flag("a")), PutFlag(flag("b")), PutSegment(segment("s", True)))
    put(shop, PutFlag(flag("a")), environment="staging")
    done = put(shop, DeleteEnvironment())

    assert (3, (EnvironmentDeleted("production", SHOP),)) == (done.revision, done.events)
    with pytest.raises(NotFound, match="there is: shop/staging"):
        stored(shop)
    with reading(shop) as connection:
        assert ["shop/staging"] == [each.environment.flag_set for each in list_environments(connection)]
        history = list_revisions(connection, project="shop", environment="production", key="a")
        assert [(2, False), (3, True)] == [(each.revision, each.document is None) for each in history]
        assert {} == read_versions(connection, project="shop", environment="production", kind="flag")
        rows = connection.exec_driver_sql("SELECT key FROM flag").scalars().all()
    assert (["a"], ["a"]) == (rows, list(stored(shop, "staging").flags))


def test_a_new_environment_of_the_same_key_goes_on_counting(shop: Engine) -> None:
    """No client is sent back to a lower revision, and nothing of what was there comes back."""
    put(shop, PutFlag(flag("a")), UpdateEnvironment(name="Live", metadata={"team": "web"}))
    put(shop, DeleteEnvironment())
    put(shop, CreateEnvironment(SHOP), PutFlag(flag("b")), expected_revision=0)

    assert (4, SHOP) == (at(shop).revision, at(shop).environment)
    assert ["b"] == list(stored(shop).flags)
    with reading(shop) as connection:
        here = {"project": "shop", "environment": "production"}
        assert touched_since(connection, **here, revision=2).environment
        then = load_documents_at(connection, **here, revision=2)
        now = load_documents_at(connection, **here, revision=4)
        with pytest.raises(NotFound, match="was deleted at revision 3"):
            load_documents_at(connection, **here, revision=3)
    assert (["a"], ["b"]) == (list(then.flags), list(now.flags))


def test_deleting_an_environment_is_all_that_a_commit_does_there(shop: Engine) -> None:
    """What would be done beside it would be gone at once."""
    with pytest.raises(InvalidRequest, match="can do nothing else there"):
        put(shop, PutFlag(flag()), DeleteEnvironment())


def test_a_project_with_environments_is_not_deleted(shop: Engine) -> None:
    """The message says which stand in the way."""
    with pytest.raises(Refused, match="still has the environments production, staging"):
        put_project(shop, DeleteProject())


def test_the_trail_of_a_deleted_project_stays(shop: Engine) -> None:
    """It can be read and verified, also after the key was used again."""
    put(shop, PutFlag(flag("a")))
    delete_all(shop)
    with reading(shop) as connection:
        assert [] == list_projects(connection)
        with pytest.raises(NotFound, match="there is: none yet"):
            read_project(connection, "shop")
        assert ["project.deleted", "environment.deleted"] == [
            entry.action for entry in list_entries(connection, project="shop")[:2]
        ]
    with pytest.raises(NotFound, match="project 'shop' does not exist"):
        put_project(shop, UpdateProject(name="Shop"))

    put(shop, CreateProject("shop", "Anew"), CreateEnvironment(SHOP))
    with reading(shop) as connection:
        assert [Project("shop", "Anew")] == list_projects(connection)
        assert ([], 9) == (
            verify_chain(connection, project="shop"),
            list_entries(connection, project="shop")[0].sequence,
        )
    assert (4, []) == (at(shop).revision, list(stored(shop).flags))


def test_a_project_that_exists_is_not_created_again(shop: Engine) -> None:
    """Nor is one created without being new."""
    with pytest.raises(Conflict, match="project 'shop' exists already"):
        put_project(shop, CreateProject("shop"))


def test_a_repeated_deletion_gets_its_first_answer(shop: Engine) -> None:
    """Although nothing is there any more."""
    delete = {"environment": "staging", "request_id": "r1"}
    first, again = (put(shop, DeleteEnvironment(), **delete) for _ in range(2))
    put(shop, DeleteEnvironment())
    gone = [put_project(shop, DeleteProject(), request_id="r2") for _ in range(2)]

    assert (first, gone[0]) == (again, gone[1])
    assert (ProjectDeleted("shop", Project("shop")),) == gone[0].events


def test_tokens_of_a_deleted_place_end(shop: Engine) -> None:
    """Those that are managed there: they must not open another place that gets the name one day."""
    made = {}
    with writing(shop) as connection:
        for home in (Scope(), Scope("shop"), Scope("shop", "staging")):
            token = Token(
                f"{home.project}{home.environment}".ljust(8, "0"), "ci", (Grant(Role.READ),), home, NOW, "ann"
            )
            made[home] = token.id
            add_token(connection, StoredToken(token, "digest", "key"), Cause("shop", "ann", NOW, "", "", ""))
    found = []
    for delete_more in (lambda: put(shop, DeleteEnvironment(), environment="staging"), lambda: delete_rest(shop)):
        delete_more()
        with reading(shop) as connection:
            found.append([read_token(connection, each, Scope()).token.revoked_at is not None for each in made.values()])
            entries = list_entries(connection, project="shop", subject=("token", made[Scope("shop", "staging")]))
            assert ["token.revoked", "token.created"] == [each.action for each in entries]
            assert [] == verify_chain(connection, project="shop")

    assert [[False, False, True], [False, True, True]] == found


def delete_rest(engine: Engine) -> None:
    """What the first deletion left of the shop."""
    put(engine, DeleteEnvironment())
    put_project(engine, DeleteProject())


def test_a_critical_environment_is_not_deleted(shop: Engine) -> None:
    """It takes two steps, each with its own entry in the trail."""
    put(shop, UpdateEnvironment(critical=True))
    with pytest.raises(Refused, match="'shop/production' is critical and cannot be deleted"):
        put(shop, DeleteEnvironment())
    put(shop, UpdateEnvironment(critical=False))

    assert 4 == put(shop, DeleteEnvironment()).revision
