"""The command `flagstaff simulate`: what a change would do, before it is made."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.files import read_file
from server.cli.options import given
from server.cli.output import EXIT_REFUSED, EXIT_USAGE
from server.cli.remote import ABOUT_SERVERS, Remote, remote_read
from server.core.errors import InvalidRequest
from server.core.json import Json

if TYPE_CHECKING:
    from protos.flagstaff.v1 import simulation_pb2

HELP: Final = f"""Say what a change would do to evaluations, before it is made: who would move, and what is in the way.

FILE has flags and segments to put, as for `import`; others stay. Units are `user-1` and so on, or given contexts.
Exit code 1: something is in the way, or units would be moved that a change of shares need not move. {ABOUT_SERVERS}

\b
  flagstaff simulate flags.yaml
  flagstaff simulate flags.yaml --units 10000 --attributes '{{"country": "FR"}}'
  flagstaff simulate flags.yaml --contexts users.jsonl
  flagstaff simulate --remove-segment beta
  flagstaff simulate --change-request cr_0123456789
"""

MOVES_SHOWN_MAX: Final = 20


@remote_read()
def simulate(
    server: Remote,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="The file, or - for standard input.")] = None,
    *,
    change_request: Annotated[str, given("--change-request", "Simulate this change request instead of a file.")] = "",
    remove_flag: Annotated[list[str] | None, given("--remove-flag", "A flag to take away. Repeatable.")] = None,
    remove_segment: Annotated[
        list[str] | None, given("--remove-segment", "A segment to take away. Repeatable.")
    ] = None,
    units: Annotated[int | None, given("--units", "How many units to make up; else 1000.", min=1, max=10_000)] = None,
    attributes: Annotated[str, given("--attributes", "A JSON object that all of these have.")] = "",
    contexts: Annotated[str, given("--contexts", "A file with contexts to use instead: one JSON object a line.")] = "",
    recent: Annotated[bool, given("--recent", "Use contexts that the server evaluated lately.")] = False,
) -> None:
    """Ask the server, and tell what it found."""
    from protos.flagstaff.v1 import simulation_pb2 as messages
    from protos.flagstaff.v1.simulation_pb2_grpc import SimulationServiceStub

    is_document = bool(file or remove_flag or remove_segment)
    if is_document == bool(change_request):
        raise typer.BadParameter("name either a FILE, or something to remove, or a --change-request")
    request = messages.SimulateRequest(project=server.project)
    if is_document:
        request.environment = server.environment
        text = read_file(file).decode("utf-8", "replace") if file else ""
        request.document.CopyFrom(
            messages.DocumentProposal(text=text, remove_flags=remove_flag or (), remove_segments=remove_segment or ())
        )
    else:
        request.change_request = change_request
    _add_sample(request, units=units, attributes=attributes, contexts=contexts, recent=recent)
    reply = SimulationServiceStub(server.channel).Simulate(request)
    if not server.prints(reply):
        _print(reply)
    if reply.in_the_way or any(flag.broken_laws for each in reply.environments for flag in each.flags):
        raise typer.Exit(EXIT_REFUSED)


def _add_sample(request: Any, *, units: int | None, attributes: str, contexts: str, recent: bool) -> None:
    if sum((bool(units or attributes), bool(contexts), recent)) > 1:
        typer.echo("error: --units with --attributes, --contexts and --recent exclude each other", err=True)
        raise typer.Exit(EXIT_USAGE)
    if contexts:
        for line in read_file(contexts).splitlines():
            if line.strip():
                request.contexts.contexts.add().update(_object(line.decode("utf-8", "replace"), "a context"))
        request.contexts.SetInParent()
    elif recent:
        request.recent = True
    else:
        request.generated.count = units or 0
        if attributes:
            request.generated.attributes.update(_object(attributes, "--attributes"))


def _object(text: str, what: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(f'{what} is not a JSON object, such as {{"targetingKey": "ann"}}')
    return value


def _print(reply: "simulation_pb2.SimulateResponse") -> None:
    for environment in reply.environments:
        typer.echo(f"{environment.environment}, tried on revision {environment.revision}:")
        for line in environment.changes:
            typer.echo(f"  {line}")
        for flag in environment.flags:
            _print_flag(flag, environment.contexts)
        for dangling in environment.dangling:
            gone = "would be gone" if dangling.removed else "does not exist"
            typer.echo(f"  {dangling.subject} refers to {dangling.missing}, which {gone}")
        if environment.flags_left_out:
            typer.echo(f"  {environment.flags_left_out} more flags are affected and were not evaluated")
    if not reply.environments:
        typer.echo("nothing would change")
    for each in reply.in_the_way:
        typer.echo(f"in the way: {each.path + ': ' if each.path else ''}{each.message}")


def _print_flag(flag: "simulation_pb2.FlagMoves", contexts: int) -> None:
    by_way = f", by way of {', '.join(flag.via)}" if flag.via else ""
    typer.echo(f"  flag {flag.flag_key}: {flag.moved} of {contexts} units move{by_way}")
    moves = [each for each in flag.moves if each.before != each.after]
    for each in moves[:MOVES_SHOWN_MAX]:
        typer.echo(f"    {_arm(each.before)} -> {_arm(each.after)}: {each.units}")
    if len(moves) > MOVES_SHOWN_MAX:
        typer.echo(f"    and {len(moves) - MOVES_SHOWN_MAX} more kinds of moves")
    if flag.other_value:
        typer.echo(f"    {flag.other_value} keep their variant and get another value")
    for law in flag.broken_laws:
        typer.echo(f"    broken law: {law.message}")


def _arm(arm: "simulation_pb2.SimulatedArm") -> str:
    from protos.flagstaff.v1 import simulation_pb2 as messages

    kind = messages.SimulatedArm.Kind
    names: dict[int, str] = {
        kind.KIND_CALLER_DEFAULT: "(the caller's default)",
        kind.KIND_ERROR: f"(error {arm.name})",
        kind.KIND_ABSENT: "(no such flag)",
    }
    return names.get(arm.kind, arm.name)
