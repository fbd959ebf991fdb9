"""Apply typed changes to a project itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from server.core.changes import CreateProject, DeleteProject, ProjectChange, UpdateProject, new_project
from server.core.definitions.places import check_project
from server.core.environments import Project
from server.core.events import ProjectCreated, ProjectDeleted, ProjectEvent, ProjectUpdated


def apply_to_project(stored: Project | None, changes: Sequence[ProjectChange]) -> tuple[ProjectEvent, ...]:
    """What changes do to a project as one; None: it is not there yet. A change to what is there already is no event.

    Errors: InvalidRequest, TooLarge.
    """
    project = stored
    for change in changes:
        match change:
            case CreateProject():
                project = new_project(change)
            case UpdateProject(name, description):
                assert project is not None  # Only creating a project begins without one.
                given = {"name": name, "description": description}
                project = replace(project, **{field: text for field, text in given.items() if text is not None})
                check_project(project)
            case DeleteProject():
                project = None
            case _:
                assert_never(change)
    return _event(stored, project)


def _event(before: Project | None, after: Project | None) -> tuple[ProjectEvent, ...]:
    if before is None:
        return () if after is None else (ProjectCreated(after.key, after),)
    if after is None:
        return (ProjectDeleted(before.key, before),)
    return () if before == after else (ProjectUpdated(after.key, before, after),)
