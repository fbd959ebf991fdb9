"""The commands `flagstaff project ...`: manage projects on a server."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import projects_pb2

HELP: Final = f"""Create, show, change and delete projects.

A project is a team's or product's flags, in several environments. {ABOUT_SERVERS}

\b
  flagstaff project create shop --name "The shop"
  flagstaff project list
  flagstaff project delete shop --confirm shop
"""

CREATE_HELP: Final = """Create a project with environments: development, staging and production, unless told otherwise.

\b
  flagstaff project create shop
  flagstaff project create shop --with live --with test
  flagstaff project create shop --empty
"""

LIST_HELP: Final = """List the projects in which you may read something.

\b
  flagstaff project list --json
"""

SHOW_HELP: Final = """Show one project.

\b
  flagstaff project show shop
"""

UPDATE_HELP: Final = """Rename a project, or describe it.

\b
  flagstaff project update shop --name "The shop"
"""

DELETE_HELP: Final = """Delete a project with its environments and everything in them. It does not come back.

Its audit trail stays. Refused while an environment is critical or frozen, and while tokens are bound to the project.

\b
  flagstaff project delete shop --confirm shop --dry-run
"""

PAGE_SIZE: Final = 1_000

app = group(HELP)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The project's key.")]
Confirm = Annotated[str, given("--confirm", "The key once more.")]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.SERVER, versioned=False)
def create(
    server: Remote,
    key: Key,
    name: Annotated[str, given("--name", "How people call it.")] = "",
    description: Annotated[str, given("--description", "What it is.")] = "",
    environments: Annotated[list[str] | None, given("--with", "The key of an environment. Repeatable.")] = None,
    is_empty: Annotated[bool, given("--empty", "Without environments.")] = False,
) -> None:
    """Create one."""
    from protos.flagstaff.v1 import projects_pb2 as messages
    from protos.flagstaff.v1.projects_pb2_grpc import ProjectServiceStub

    request = messages.CreateProjectRequest(
        project=key,
        name=name,
        description=description,
        environments=environments or (),
        without_environments=is_empty,
        options=server.options(),
    )
    reply = ProjectServiceStub(server.channel).CreateProject(request)
    server.done(reply, f"project {key} created with {', '.join(reply.project.environments) or 'no environments'}")


@app.command("list", help=LIST_HELP)
@remote_read(Place.SERVER)
def list_projects(server: Remote) -> None:
    """List all pages."""
    from protos.flagstaff.v1 import projects_pb2 as messages
    from protos.flagstaff.v1.projects_pb2_grpc import ProjectServiceStub

    stub = ProjectServiceStub(server.channel)
    found = messages.ListProjectsResponse()
    request = messages.ListProjectsRequest(page_size=PAGE_SIZE)
    while True:
        page = stub.ListProjects(request)
        found.projects.extend(page.projects)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    found.total_size = len(found.projects)
    if not server.prints(found):
        rows = [[each.key, each.name or "-", ", ".join(each.environments) or "-"] for each in found.projects]
        print_table(("key", "name", "environments"), rows)
        typer.echo(f"\n{len(rows)} project{'s' * (len(rows) != 1)}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.SERVER)
def show(server: Remote, key: Key) -> None:
    """Show one."""
    from protos.flagstaff.v1 import projects_pb2 as messages
    from protos.flagstaff.v1.projects_pb2_grpc import ProjectServiceStub

    reply = ProjectServiceStub(server.channel).GetProject(messages.GetProjectRequest(project=key))
    if not server.prints(reply):
        _print(reply.project)


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.SERVER)
def update(
    server: Remote,
    key: Key,
    name: Annotated[str | None, given("--name", "How people call it.")] = None,
    description: Annotated[str | None, given("--description", "What it is.")] = None,
) -> None:
    """Set what is given."""
    from protos.flagstaff.v1 import projects_pb2 as messages
    from protos.flagstaff.v1.projects_pb2_grpc import ProjectServiceStub

    chosen = [field for field, text in (("name", name), ("description", description)) if text is not None]
    if not chosen:
        raise typer.BadParameter("nothing is to be set; give --name or --description")
    request = messages.UpdateProjectRequest(
        project=key, name=name or "", description=description or "", options=server.options()
    )
    request.update_mask.paths.extend(chosen)
    server.done(ProjectServiceStub(server.channel).UpdateProject(request))


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.SERVER)
def delete(server: Remote, key: Key, confirm: Confirm) -> None:
    """Delete one."""
    from protos.flagstaff.v1 import projects_pb2 as messages
    from protos.flagstaff.v1.projects_pb2_grpc import ProjectServiceStub

    request = messages.DeleteProjectRequest(project=key, confirm=confirm, options=server.options())
    server.done(ProjectServiceStub(server.channel).DeleteProject(request), f"project {key} deleted")


def _print(project: "projects_pb2.Project") -> None:
    typer.echo(f"key           {project.key}")
    typer.echo(f"name          {project.name or '-'}")
    if project.description:
        typer.echo(f"description   {project.description}")
    typer.echo(f"environments  {', '.join(project.environments) or '-'}")
    typer.echo(f"version       {project.version}")
