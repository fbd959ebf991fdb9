"""The commands `flagstaff action ...`: what automation tools may have done, and having it done."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.action_inputs import read_inputs
from server.cli.options import given, group
from server.cli.output import print_json, print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import actions_pb2

HELP: Final = f"""Have a named action done, as automation tools do by `POST /v1/actions/NAME`.

{ABOUT_SERVERS}

\b
  flagstaff action list
  flagstaff action list set_rollout_share                             its inputs, as a JSON Schema
  flagstaff action run set_rollout_share flag_key=new-ui percent=25 --environment production
"""

LIST_HELP: Final = """List the actions that there are; with a name, describe its inputs as a JSON Schema.

\b
  flagstaff action list
  flagstaff action list kill_flag
"""

RUN_HELP: Final = """Have an action done. Values are JSON where they can be, else text.

\b
  flagstaff action run set_flag_state flag_key=new-ui enabled=true --environment production
  flagstaff action run find_flags text=checkout --environment production --json
  flagstaff action run update_segment segment_key=beta 'add=["ann"]' --environment staging --dry-run
"""

app = group(HELP)


@app.command("list", help=LIST_HELP)
@remote_read(Place.SERVER)
def list_actions(server: Remote, name: Annotated[str, typer.Argument(help="One of them.")] = "") -> None:
    """Print what the server knows, or one action's schema."""
    from protos.flagstaff.v1 import actions_pb2 as messages
    from protos.flagstaff.v1.actions_pb2_grpc import ActionServiceStub
    from server.cli.documents import as_document
    from server.core.errors import NotFound

    reply = ActionServiceStub(server.channel).ListActions(messages.ListActionsRequest())
    if name:
        found = next((each for each in reply.actions if each.name == name), None)
        if found is None:
            raise NotFound(f"no action is called {name!r}; `flagstaff action list` lists those that there are")
        print_json(as_document(found)["schema"])
    elif not server.prints(reply):
        rows = [(each.name, each.permission, each.description) for each in reply.actions]
        print_table(("action", "needs", "what it does"), rows)


@app.command("run", help=RUN_HELP)
@remote_write(Place.ANYWHERE)
def run(
    server: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `flagstaff action list`.")],
    inputs: Annotated[list[str] | None, typer.Argument(metavar="[INPUT=VALUE]...", help="Its inputs.")] = None,
    *,
    causation: Annotated[str, given("--causation", "The id of the event because of which this is asked.")] = "",
    hops: Annotated[int, given("--hops", "The `hops` of that event.", min=0)] = 0,
) -> None:
    """Ask, and tell what became of it."""
    from protos.flagstaff.v1 import actions_pb2 as messages
    from protos.flagstaff.v1.actions_pb2_grpc import ActionServiceStub

    request = messages.RunActionRequest(
        project=server.project,
        environment=server.environment,
        name=name,
        causation_id=causation,
        hops=hops,
        options=server.options(),
    )
    request.inputs.update(read_inputs(inputs or ()))
    reply = ActionServiceStub(server.channel).RunAction(request)
    if not server.prints(reply):
        _print(reply)


def _print(reply: "actions_pb2.RunActionResponse") -> None:
    from protos.flagstaff.v1 import actions_pb2 as messages
    from server.cli.documents import as_document

    for warning in reply.warnings:
        typer.echo(f"warning: {warning}", err=True)
    status = messages.ActionStatus.Name(reply.status).removeprefix("ACTION_STATUS_").lower().replace("_", " ")
    if reply.status == messages.ACTION_STATUS_FOUND:
        print_json([as_document(each) for each in reply.items])
        return
    about = reply.change_request or reply.subject_id
    typer.echo(f"{status}{f': {about}' if about else ''}")
    for change in reply.changes:
        typer.echo(f"  {change}")
    if reply.event_ids:
        typer.echo(f"events: {', '.join(reply.event_ids)}")
