"""Changes of a project itself."""

import pytest

from server.core.changes import CreateProject, DeleteProject, UpdateProject
from server.core.environments import Project
from server.core.errors import InvalidRequest, TooLarge
from server.core.events import ProjectCreated, ProjectDeleted, ProjectUpdated
from server.core.projects import apply_to_project

SHOP = Project("shop", "Shop", "Everything that is sold")


def test_each_change_has_its_event() -> None:
    """With the project before and after; several changes are one event."""
    renamed = Project("shop", "Store", "Everything that is sold")

    assert [
        (ProjectCreated("shop", renamed),),
        (ProjectUpdated("shop", SHOP, renamed),),
        (ProjectDeleted("shop", SHOP),),
    ] == [
        apply_to_project(None, [CreateProject("shop", "Shop", SHOP.description), UpdateProject(name="Store")]),
        apply_to_project(SHOP, [UpdateProject(name="Store")]),
        apply_to_project(SHOP, [UpdateProject(name="Store"), DeleteProject()]),
    ]


def test_what_is_so_already_is_no_event() -> None:
    """Neither the same name nor a project that comes and goes at once."""
    assert () == apply_to_project(SHOP, [UpdateProject(name="Shop")])
    assert () == apply_to_project(None, [CreateProject("shop"), DeleteProject()])


def test_its_key_and_texts_are_checked() -> None:
    """A key is part of names and addresses; a text is bounded."""
    with pytest.raises(InvalidRequest, match="project key: 'Shop!' does not name a project"):
        apply_to_project(None, [CreateProject("Shop!")])
    with pytest.raises(TooLarge, match="the description of project 'shop' has 4097 characters"):
        apply_to_project(SHOP, [UpdateProject(description="d" * 4097)])
