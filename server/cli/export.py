"""The command `flagstaff export`: write an environment's flags to a file."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.files import STANDARD, write_file, yaml_text
from server.cli.options import (
    DEFAULT_DATABASE_URL,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    AsJson,
    DatabaseUrl,
    EnvironmentName,
    option,
)
from server.cli.output import print_json, reports_failures

if TYPE_CHECKING:
    from server.operations.flagsets import Format

HELP: Final = """Write an environment's flags and segments as one document.

In Flagstaff's format, what is exported and imported again is the same. In flagd's format it needs nothing of
Flagstaff: targets, shares, splits and prerequisites are written out as flagd targeting.

\b
  flagstaff export --output flags.json
  flagstaff export --yaml                                     to standard output
  flagstaff export --format flagd --output demo.flagd.json    for flagd and in-process providers
  flagstaff export --all flags                                flags/PROJECT/ENVIRONMENT.yaml for every environment, to
                                                              keep in Git; see `flagstaff plan`
"""


class FormatName(StrEnum):
    """The formats, as an option's choices."""

    FLAGSTAFF = "flagstaff"
    FLAGD = "flagd"


@reports_failures
def export(
    *,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    project: Annotated[
        str | None, option("--project", f"The project; else `{DEFAULT_PROJECT}`, or every one with --all.")
    ] = None,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    all_to: Annotated[
        Path | None, option("--all", "Write every environment, a file each, into this directory.", metavar="DIR")
    ] = None,
    format: Annotated[FormatName, option("--format", "Whose format.")] = FormatName.FLAGSTAFF,
    output: Annotated[str, option("--output", "The file, or - for standard output.", "-o")] = STANDARD,
    as_yaml: Annotated[bool, option("--yaml", "Write YAML instead of JSON.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the stored flag set and write it out."""
    from server.operations import databases, flagsets

    if all_to is not None:
        _export_all(all_to, project, flagsets.Format(format.value), database_url=database_url, as_json=as_json)
        return
    with databases.open_to_read(database_url) as engine:
        document = flagsets.export(
            engine,
            project=project or DEFAULT_PROJECT,
            environment=environment,
            format=flagsets.Format(format.value),
            tell=_warn,
        )
    text = yaml_text(document) if as_yaml else json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_file(output, text)


def _warn(line: str) -> None:
    typer.echo(f"warning: {line}", err=True)


def _export_all(root: Path, project: str | None, format: "Format", *, database_url: str, as_json: bool) -> None:
    from server.operations import databases, directories, flagsets

    with databases.open_to_read(database_url) as engine:
        documents = flagsets.export_all(engine, project=project, format=format, tell=_warn)
    done = directories.write_directory(root, {place: yaml_text(document) for place, document in documents.items()})
    if as_json:
        print_json({"written": list(done.written), "stale": list(done.stale)})
        return
    for name in done.written:
        typer.echo(name)
    for name in done.stale:
        typer.echo(f"warning: {name} was there before and is of no environment that was exported; it stays", err=True)
