"""The commands `flagstaff release template ...`: curves with gates that releases are drawn up from."""

from typing import Annotated, Final

import typer

from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.release import arguments
from server.cli.release.arguments import (
    Approvals,
    Asks,
    AskTimeout,
    DryGuards,
    Every,
    Guards,
    Manual,
    NoGo,
    OnNoGo,
    OnSilence,
    Sample,
    Silence,
    stub,
)
from server.cli.remote import Place, Remote, remote_read, remote_write

HELP: Final = """Keep curves with their gates, from which a project's releases are drawn up.

\b
  flagstaff release template put careful --shares 1%,5%,25%,100% --every 1d --guard checkout-errors
  flagstaff release create new-checkout everybody --template careful
"""

PUT_HELP: Final = """Keep a curve with its gates; the last step has none.

\b
  flagstaff release template put careful --shares 1%,5%,25%,100% --every 1d --approvals 1
"""

LIST_HELP: Final = """List the templates of a project.

\b
  flagstaff release template list
"""

DELETE_HELP: Final = """Take a template away; releases that were drawn up from it stay.

\b
  flagstaff release template delete careful
"""

app = group(HELP)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The template's name.")]


@app.command("put", help=PUT_HELP)
@remote_write(Place.PROJECT, versioned=False)
def put(
    server: Remote,
    name: Name,
    *,
    shares: Annotated[str, given("--shares", "The shares, such as 1%,10%,100%.")],
    description: Annotated[str, given("--description", "What it is for.")] = "",
    every: Every = "1h",
    guard: Guards = None,
    dry_run_guard: DryGuards = None,
    sample: Sample = 0,
    ask: Asks = None,
    ask_timeout: AskTimeout = "1h",
    on_silence: OnSilence = Silence.HOLD,
    on_no_go: OnNoGo = NoGo.HOLD,
    approvals: Approvals = 0,
    manual: Manual = False,
) -> None:
    """Keep it."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    externals = arguments.asked(ask, ask_timeout, on_silence, on_no_go)
    gates = arguments.gates(every, guard, dry_run_guard, sample, externals, approvals, manual)
    steps = [messages.ReleaseTemplateStep(share_parts=arguments.parts(each), gates=gates) for each in shares.split(",")]
    steps[-1].gates.Clear()
    request = messages.PutReleaseTemplateRequest(
        project=server.project,
        template=messages.ReleaseTemplate(name=name, description=description, steps=steps),
        options=server.options(),
    )
    server.done(stub(server).PutReleaseTemplate(request), f"release template {name} kept")


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_templates(server: Remote) -> None:
    """Read and list them."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    reply = stub(server).ListReleaseTemplates(messages.ListReleaseTemplatesRequest(project=server.project))
    if server.prints(reply):
        return
    rows = [
        [each.name, ", ".join(f"{step.share_parts / 1000:g} %" for step in each.steps), each.description or "-"]
        for each in reply.templates
    ]
    print_table(("name", "shares", "description"), rows)


@app.command("delete", help=DELETE_HELP)
@remote_write(Place.PROJECT, versioned=False)
def delete(server: Remote, name: Name) -> None:
    """Take it away."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    request = messages.DeleteReleaseTemplateRequest(project=server.project, name=name, options=server.options())
    server.done(stub(server).DeleteReleaseTemplate(request), f"release template {name} deleted")
