"""Serve flagstaff.v1.ProjectService."""

from typing import Final

from protos.flagstaff.v1 import projects_pb2 as messages
from server.core.access import Principal
from server.core.environments import Project
from server.core.errors import InvalidRequest, NotFound
from server.operations.projects import DEFAULT_ENVIRONMENTS, Projects, StoredProject
from server.operations.writes import Write, Written
from server.rpc.management import Management, named, result_of
from server.rpc.masks import masked
from server.rpc.paging import paged
from server.rpc.table import Table, merge

SERVICE: Final = "flagstaff.v1.ProjectService"
_FIELDS: Final = ("name", "description")


def project_table(management: Management, projects: Projects) -> Table:
    """The service's handlers."""
    service = _Projects(projects)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateProject": (messages.CreateProjectRequest, service.create),
                "UpdateProject": (messages.UpdateProjectRequest, service.update),
                "DeleteProject": (messages.DeleteProjectRequest, service.delete),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetProject": (messages.GetProjectRequest, service.get),
                "ListProjects": (messages.ListProjectsRequest, service.list),
            },
        ),
    )


class _Projects:
    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    def create(self, request: messages.CreateProjectRequest, write: Write) -> messages.ProjectResponse:
        named(request, "project")
        if request.without_environments and request.environments:
            raise InvalidRequest("environments are named, and without_environments is set; choose one of them")
        if not all(request.environments):
            raise InvalidRequest("environments are named by a key; one of them is empty")
        environments = () if request.without_environments else tuple(request.environments) or DEFAULT_ENVIRONMENTS
        project = Project(request.project, request.name, request.description)
        return self._response(request.project, self._projects.create(project, environments, write), write)

    def get(self, request: messages.GetProjectRequest, principal: Principal) -> messages.GetProjectResponse:
        named(request, "project")
        return messages.GetProjectResponse(project=_message(self._projects.read(request.project, principal)))

    def list(self, request: messages.ListProjectsRequest, principal: Principal) -> messages.ListProjectsResponse:
        page = paged(self._projects.list_readable(principal), request, key=lambda each: each.project.key)
        return messages.ListProjectsResponse(
            projects=map(_message, page.items), next_page_token=page.next_page_token, total_size=page.total_size
        )

    def update(self, request: messages.UpdateProjectRequest, write: Write) -> messages.ProjectResponse:
        named(request, "project")
        chosen = masked(request.update_mask, _FIELDS) or frozenset(_FIELDS)
        name, description = (getattr(request, field) if field in chosen else None for field in _FIELDS)
        written = self._projects.update(request.project, name=name, description=description, write=write)
        return self._response(request.project, written, write)

    def delete(self, request: messages.DeleteProjectRequest, write: Write) -> messages.DeleteProjectResponse:
        named(request, "project")
        written = self._projects.delete(request.project, confirm=request.confirm, write=write)
        return messages.DeleteProjectResponse(result=result_of(written))

    def _response(self, key: str, written: Written, write: Write) -> messages.ProjectResponse:
        response = messages.ProjectResponse(result=result_of(written))
        try:
            response.project.CopyFrom(_message(self._projects.read(key, write.principal)))
        except NotFound:
            # A dry run, or a request for a change, created nothing.
            response.ClearField("project")
        return response


def _message(stored: StoredProject) -> messages.Project:
    project = stored.project
    return messages.Project(
        key=project.key,
        name=project.name,
        description=project.description,
        version=stored.version,
        environments=stored.environments,
    )
