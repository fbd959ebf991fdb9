"""The command `flagstaff check`: say what is wrong with files of definitions, and store nothing."""

from typing import Annotated, Final

import typer

from server.cli.files import read_file
from server.cli.options import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT, AsJson, Lenient
from server.cli.output import EXIT_REFUSED, fail, print_json, print_problems, problems_json, reports_failures
from server.core.errors import FlagstaffError, InvalidDefinition
from server.core.json import Json

HELP: Final = """Check files of flag definitions and store nothing.

Every problem is printed with its path; the exit code is 1 when there is one. No database is needed, so this suits CI.

\b
  flagstaff check flags.json more.yaml
  flagstaff check --lenient demo.flagd.json        what flagd only warns about is only a warning
  cat flags.json | flagstaff check -
"""


@reports_failures
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Ours or flagd's format, JSON or YAML; or -.")],
    lenient: Lenient = False,
    as_json: AsJson = False,
) -> None:
    """Check each file by itself."""
    reports = [_report(name, lenient=lenient, as_json=as_json) for name in files]
    if as_json:
        print_json(reports)
    if not all(report["valid"] for report in reports):
        raise typer.Exit(EXIT_REFUSED)


def _report(name: str, *, lenient: bool, as_json: bool) -> dict[str, Json]:
    from server.operations.flagsets import Place, read_definitions

    place = Place(None, None, DEFAULT_PROJECT, DEFAULT_ENVIRONMENT)
    try:
        read = read_definitions(read_file(name), name=name, place=place, lenient=lenient)
    except InvalidDefinition as error:
        if not as_json:
            print_problems(error.problems, before=f"{name}: ")
        return {"file": name, "valid": False, "problems": problems_json(error.problems)}
    except FlagstaffError as error:
        fail(error, as_json=as_json)
    flags, segments = len(read.flag_set.flags), len(read.flag_set.segments)
    if not as_json:
        print_problems(read.warnings, before=f"{name}: ")
        typer.echo(f"{name}: sound, {flags} flags and {segments} segments in {read.format.value}'s format")
    found = problems_json(read.warnings)
    counts = {"format": read.format.value, "flags": flags, "segments": segments}
    return {"file": name, "valid": True, "problems": found, **counts}
