"""The command `flagstaff evaluate`: ask one flag, from the database, without a server."""

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.files import STANDARD, read_file
from server.cli.options import (
    DEFAULT_DATABASE_URL,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    AsJson,
    DatabaseUrl,
    EnvironmentName,
    Project,
    option,
)
from server.cli.output import EXIT_REFUSED, in_short, print_json, reports_failures
from server.core.errors import InvalidDefinition, InvalidRequest
from server.core.json import Json

if TYPE_CHECKING:
    from server.operations.explain import Answer

HELP: Final = """Evaluate one flag as a server would, straight from the database.

The exit code is 0 with an answer and 1 when the answer is an error, such as a flag that does not exist.

\b
  flagstaff evaluate new-checkout --targeting-key alice
  flagstaff evaluate new-checkout --targeting-key alice --explain          which rule, which bucket, why
  flagstaff evaluate banner --context '{"targetingKey": "alice", "country": "FR"}'
  flagstaff evaluate banner --context @alice.json --at 2026-12-24T18:00:00Z
"""


@reports_failures
def evaluate(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The flag's key.")],
    *,
    context: Annotated[
        str, option("--context", "The evaluation context: a JSON object, @FILE, or - for standard input.", "-c")
    ] = "{}",
    targeting_key: Annotated[
        str | None, option("--targeting-key", "The unit of evaluation; joins the context as targetingKey.", "-k")
    ] = None,
    at: Annotated[
        str | None, option("--at", "The clock for rules that look at it: an instant with its time zone; else now.")
    ] = None,
    explain: Annotated[bool, option("--explain", "Tell each step of the evaluation.")] = False,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    project: Project = DEFAULT_PROJECT,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    as_json: AsJson = False,
) -> None:
    """Evaluate, and print the answer with its reason."""
    from server.core.resolution import Reason
    from server.operations import databases
    from server.operations.explain import evaluate_stored

    attributes = read_context(context)
    if targeting_key is not None:
        attributes["targetingKey"] = targeting_key
    now = int(time.time()) if at is None else _read_instant(at)
    with databases.open_to_read(database_url) as engine:
        answer = evaluate_stored(
            engine, key, project=project, environment=environment, context=attributes, now=now, explained=explain
        )
    if as_json:
        print_json(_described(answer, with_steps=explain))
    else:
        _print(answer)
    if answer.resolution.reason is Reason.ERROR:
        raise typer.Exit(EXIT_REFUSED)


def read_context(given: str) -> dict[str, Json]:
    """A context as it is given: a JSON object, @FILE, or - for standard input. Errors: InvalidRequest."""
    from server.core.definitions.text import parse_text

    name = given.removeprefix("@")
    is_file = given.startswith("@") or given == STANDARD
    text = read_file(name) if is_file else given.encode("utf-8", "surrogateescape")
    try:
        parsed = parse_text(text, name=name if is_file and name != STANDARD else "context.json")
    except InvalidDefinition as error:
        raise InvalidRequest(f"the context cannot be read: {error.problems[0].message}") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest('the context is not a JSON object; expected something like \'{"country": "FR"}\'')
    return parsed


def _read_instant(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidRequest(f"--at {text!r} is not an instant with its time zone, such as 2026-12-24T18:00:00Z")
    return int(instant.timestamp())


def _print(answer: "Answer") -> None:
    resolution = answer.resolution
    for number, step in enumerate(answer.steps, start=1):
        typer.echo(f"{number}. {step.what}: {step.outcome}")
        if step.detail:
            typer.echo(f"   {step.detail}")
    if answer.steps:
        typer.echo()
    absent = resolution.value is None
    value = "none: the caller uses its own default" if absent else in_short(resolution.value, chars_max=2_000)
    typer.echo(f"value     {value}")
    if resolution.variant is not None:
        typer.echo(f"variant   {resolution.variant}")
    typer.echo(f"reason    {resolution.reason.value}")
    if resolution.error_code is not None:
        hint = f" ({answer.hint})" if answer.hint else ""
        typer.echo(f"error     {resolution.error_code.value}: {resolution.error_message}{hint}")
    for name, scalar in resolution.metadata.items():
        typer.echo(f"metadata  {name} = {in_short(scalar)}")
    typer.echo(f"from      {answer.flag_set}, revision {answer.revision}")


def _described(answer: "Answer", *, with_steps: bool) -> dict[str, Json]:
    resolution = answer.resolution
    described: dict[str, Json] = {
        "key": resolution.flag_key,
        "value": resolution.value,
        "variant": resolution.variant,
        "reason": resolution.reason.value,
        "errorCode": None if resolution.error_code is None else resolution.error_code.value,
        "errorMessage": resolution.error_message,
        "metadata": dict(resolution.metadata),
        "flagSet": answer.flag_set,
        "revision": answer.revision,
    }
    if with_steps:
        steps = [{"what": step.what, "outcome": step.outcome, "detail": step.detail} for step in answer.steps]
        described["steps"] = steps
    return described
