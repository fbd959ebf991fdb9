"""The command `flagstaff flags`: list what an environment has."""

from typing import TYPE_CHECKING, Final

import typer

from server.cli.options import (
    DEFAULT_DATABASE_URL,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    AsJson,
    DatabaseUrl,
    EnvironmentName,
    Project,
)
from server.cli.output import print_json, print_table, reports_failures
from server.core.counting import counted
from server.core.json import Json

if TYPE_CHECKING:
    from server.core.flags import FlagDefinition, Serve

HELP: Final = """List flags: type, state, default, rules.

\b
  flagstaff flags
  flagstaff flags --project shop --environment staging --json
"""


@reports_failures
def flags(
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    project: Project = DEFAULT_PROJECT,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    as_json: AsJson = False,
) -> None:
    """Read the stored flag set and list it."""
    from server.operations import databases
    from server.operations.flagsets import read_stored

    with databases.open_to_read(database_url) as engine:
        flag_set, revision = read_stored(engine, project=project, environment=environment)
    rows = [_described(flag_set.flags[key]) for key in sorted(flag_set.flags)]
    if as_json:
        print_json({"flagSet": flag_set.environment.flag_set, "revision": revision, "flags": rows})
        return
    columns = ("key", "type", "state", "default", "rules")
    print_table(columns, [[str(row[column] or "-") for column in columns] for row in rows])
    name, segments = flag_set.environment.flag_set, len(flag_set.segments)
    typer.echo(f"\n{counted(len(rows), 'flag')}, {counted(segments, 'segment')} in {name}, revision {revision}")


def _described(definition: "FlagDefinition") -> dict[str, Json]:
    flag, config = definition.flag, definition.config
    state = "archived" if flag.archived_at is not None else "on" if config.enabled else "off"
    return {
        "key": flag.key,
        "type": flag.type.value,
        "state": state,
        "default": _default(config.default),
        "rules": "flagd targeting" if config.targeting is not None else len(config.rules),
        "description": flag.description,
    }


def _default(default: "Serve | None") -> str | None:
    if default is None or isinstance(default, str):
        return default
    return " / ".join(f"{variant} {weight}" for variant, weight in default.weights)
