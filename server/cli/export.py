"""The command `flagstaff export`: write an environment's flags to a file."""

import json
from enum import StrEnum
from typing import Annotated, Final

from server.cli.files import STANDARD, write_file, yaml_text
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
from server.cli.output import reports_failures

HELP: Final = """Write an environment's flags and segments as one document.

In Flagstaff's format, what is exported and imported again is the same. In flagd's format it needs nothing of
Flagstaff: targets, shares, splits and prerequisites are written out as flagd targeting.

\b
  flagstaff export --output flags.json
  flagstaff export --yaml                                     to standard output
  flagstaff export --format flagd --output demo.flagd.json    for flagd and in-process providers
"""


class FormatName(StrEnum):
    """The formats, as an option's choices."""

    FLAGSTAFF = "flagstaff"
    FLAGD = "flagd"


@reports_failures
def export(
    *,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    project: Project = DEFAULT_PROJECT,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    format: Annotated[FormatName, option("--format", "Whose format.")] = FormatName.FLAGSTAFF,
    output: Annotated[str, option("--output", "The file, or - for standard output.", "-o")] = STANDARD,
    as_yaml: Annotated[bool, option("--yaml", "Write YAML instead of JSON.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the stored flag set and write it out."""
    from server.operations import databases, flagsets

    with databases.open_to_read(database_url) as engine:
        document = flagsets.export(
            engine, project=project, environment=environment, format=flagsets.Format(format.value)
        )
    text = yaml_text(document) if as_yaml else json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_file(output, text)
