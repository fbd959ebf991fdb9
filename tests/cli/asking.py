"""Two small commands over a server, to see what all remote commands have in common."""

from types import SimpleNamespace
from typing import Annotated

import typer

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from server.cli.main import _start
from server.cli.remote import Place, Remote, remote_read, remote_write

app = typer.Typer(pretty_exceptions_enable=False)
app.callback()(_start)


@app.command("ask")
@remote_read()
def ask(server: Remote, key: Annotated[str, typer.Argument()]) -> None:
    """Evaluate a flag and print its variant."""
    request = messages.EvaluateRequest(flag_key=key, flag_set=f"{server.project}/{server.environment}")
    reply = EvaluationServiceStub(server.channel).Evaluate(request)
    if not server.prints(reply):
        typer.echo(reply.resolution.variant)


@app.command("change")
@remote_write(Place.PROJECT)
def change(server: Remote, *, outcome: str = "APPLIED") -> None:
    """Tell a result as if a server had answered it."""
    options = server.options()
    result = common.WriteResult(
        outcome=common.Outcome.Value(f"OUTCOME_{outcome}"),
        revisions={"production": 7},
        changes=[f"reason: {options.reason}", f"expected version: {options.expected_version}"],
        warnings=["this looks unintended"],
        change_request="cr-1" if outcome == "REQUESTED" else "",
    )
    server.done(SimpleNamespace(result=result), f"changed in {server.project}")
