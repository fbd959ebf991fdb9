"""The command `flagstaff migrate`: make the database, or bring its schema up to date."""

from typing import Annotated, Final

import typer

from server.cli.options import DEFAULT_DATABASE_URL, AsJson, DatabaseUrl, option
from server.cli.output import EXIT_REFUSED, print_json, reports_failures

HELP: Final = """Make the database, or bring its schema up to date.

`serve` and `import` do the same at their start; this is for those who want it as a step of its own. All of it happens
or none. With --status nothing is changed, and the exit code is 0 only when there is nothing to do.

\b
  flagstaff migrate
  flagstaff migrate --status
"""

_SAYS: Final = {
    "current": "up to date",
    "absent": "not there yet; `flagstaff migrate` makes it",
    "behind": "older than this program; `flagstaff migrate` brings it up to date",
    "ahead": "made by a newer Flagstaff; run that version or a later one",
}


@reports_failures
def migrate(
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    status: Annotated[bool, option("--status", "Only say how the database stands.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply what is missing, or tell."""
    from server.operations import databases

    if status:
        state = databases.read_state(database_url).value
        if as_json:
            print_json({"state": state})
        else:
            typer.echo(f"the database is {_SAYS[state]}")
        if state != "current":
            raise typer.Exit(EXIT_REFUSED)
        return
    applied = databases.migrate(database_url)
    if as_json:
        print_json({"state": "current", "applied": applied})
    else:
        typer.echo(f"applied {', '.join(applied)}" if applied else "nothing to do, the database is up to date")
