"""The command `flagstaff import`: bring an environment to what a file defines."""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.cli.files import STANDARD, read_file
from server.cli.options import (
    DEFAULT_DATABASE_URL,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    AsJson,
    DatabaseUrl,
    Lenient,
    option,
)
from server.cli.output import print_json, print_problems, problems_json, reports_failures
from server.core.json import Json

if TYPE_CHECKING:
    from server.operations.flagsets import Definitions, Imported, Wanted

HELP: Final = """Store the flags of a file, all of them or none, as one revision.

The file is in Flagstaff's format or in flagd's, JSON or YAML. Project and environment are created when they are absent.
Flags and segments that the file does not have stay, unless --replace is given. A running server follows within moments.

\b
  flagstaff import flags.json                                 into default/production
  flagstaff import flags.yaml --project shop --environment staging --reason "Summer sale"
  flagstaff import demo.flagd.json --lenient                  what flagd only warns about is stored, with warnings
  flagstaff import flags.json --replace --dry-run             what would happen?
  flagstaff import huge.json --no-sync                        evaluated by the server only
  cat flags.json | flagstaff import -
"""

NAMES_SHOWN_MAX: Final = 20


class BucketingName(StrEnum):
    """The two schemes, as an option's choices."""

    V2 = "v2"
    V3 = "v3"


@reports_failures
def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, or - for standard input.")],
    *,
    database_url: DatabaseUrl = DEFAULT_DATABASE_URL,
    project: Annotated[
        str | None, option("--project", f"The project; else the file's own, else `{DEFAULT_PROJECT}`.")
    ] = None,
    environment: Annotated[
        str | None, option("--environment", f"The environment; else the file's own, else `{DEFAULT_ENVIRONMENT}`.")
    ] = None,
    source: Annotated[
        str | None,
        option("--source", "A name by which flagd's selector finds these flags; for a flagd file else its path."),
    ] = None,
    bucketing: Annotated[
        BucketingName | None,
        option("--bucketing", "How users are hashed, from now on; else the file's own, else as it is (v2 at first)."),
    ] = None,
    lenient: Lenient = False,
    replace: Annotated[bool, option("--replace", "Remove the flags and segments that the file does not have.")] = False,
    replace_variants: Annotated[
        bool, option("--replace-variants", "Let a variant that other environments serve too get another value.")
    ] = False,
    rerandomise: Annotated[
        bool,
        option("--rerandomise", "Let shares and splits hash another attribute or salt: users get other variants."),
    ] = False,
    sync: Annotated[
        bool | None,
        option(
            "--sync/--no-sync",
            "Whether in-process clients are sent this environment's flags, all of them in 4 MiB; else as it is (on at "
            "first).",
        ),
    ] = None,
    dry_run: Annotated[bool, option("--dry-run", "Say what would happen, and store nothing.")] = False,
    reason: Annotated[str, option("--reason", "Why, for the audit trail.")] = "",
    as_json: AsJson = False,
) -> None:
    """Read, check, store, and tell what became of each flag."""
    from server.core.environments import Bucketing
    from server.operations.flagsets import Format, Place, Wanted, read_definitions

    place = Place(project or None, environment or None, DEFAULT_PROJECT, DEFAULT_ENVIRONMENT)
    definitions = read_definitions(read_file(file), name=file, place=place, lenient=lenient)
    if source is None and definitions.format is Format.FLAGD and file != STANDARD:
        source = file
    wanted = Wanted(source, Bucketing(bucketing) if bucketing else None, replace, replace_variants, rerandomise, sync)
    imported = _run(definitions, wanted, database_url=database_url, dry_run=dry_run, reason=reason)
    if as_json:
        print_json(_described(imported, definitions, dry_run=dry_run))
    else:
        print_problems(definitions.warnings)
        _print(imported, dry_run=dry_run)
    if imported.bucketing_before is not None:
        _warn_bucketing(imported)
    for each in imported.waiting:
        typer.echo(f"warning: {each}", err=True)


def _run(definitions: "Definitions", wanted: "Wanted", *, database_url: str, dry_run: bool, reason: str) -> "Imported":
    from server.operations import databases
    from server.operations.flagsets import import_definitions, try_import

    if dry_run and not databases.is_there(database_url):
        return try_import(definitions, wanted=wanted)
    opened = databases.open_to_read(database_url) if dry_run else databases.open_to_write(database_url)
    with opened as engine:
        return import_definitions(
            engine,
            definitions,
            wanted=wanted,
            actor=actor_name(),
            now=datetime.now(UTC),
            reason=reason,
            dry_run=dry_run,
        )


def actor_name() -> str:
    """Who runs this command, for the audit trail."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # A container's user need not have a name.
        return "cli"


def _print(imported: "Imported", *, dry_run: bool) -> None:
    for kind, by_outcome in (("flags", imported.flags), ("segments", imported.segments)):
        for outcome in ("created", "updated", "removed", "unchanged"):
            keys = by_outcome[outcome]
            if keys:
                names = "" if outcome == "unchanged" else f": {_names(keys)}"
                typer.echo(f"{len(keys)} {kind if len(keys) > 1 else kind[:-1]} {outcome}{names}")
    if imported.environment == "updated":
        typer.echo("the environment's own settings updated")
    for environment, revision in imported.elsewhere.items():
        typer.echo(f"shared parts of flags changed in {environment} too, now at revision {revision}")
    would_be = "would be" if dry_run else "is"
    stored = "; this was a dry run, nothing was stored" if dry_run else ""
    typer.echo(f"{imported.flag_set} {would_be} at revision {imported.revision}{stored}")


def _names(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMES_SHOWN_MAX} more" if len(keys) > NAMES_SHOWN_MAX else ""
    return ", ".join(keys[:NAMES_SHOWN_MAX]) + more


def _warn_bucketing(imported: "Imported") -> None:
    from server.operations.bucketing import SAMPLE_USERS

    typer.echo(
        f"warning: bucketing of {imported.flag_set} was {imported.bucketing_before} before; "
        "shares and splits deal out their users anew",
        err=True,
    )
    for key, count in imported.moved.items():
        typer.echo(f"warning: {key}: {count} of {SAMPLE_USERS} sample users get another variant", err=True)


def _described(imported: "Imported", definitions: "Definitions", *, dry_run: bool) -> dict[str, Json]:
    return {
        "flagSet": imported.flag_set,
        "revision": imported.revision,
        "dryRun": dry_run,
        "format": definitions.format.value,
        "environment": imported.environment,
        "flags": {outcome: list(keys) for outcome, keys in imported.flags.items()},
        "segments": {outcome: list(keys) for outcome, keys in imported.segments.items()},
        "elsewhere": dict(imported.elsewhere),
        "moved": dict(imported.moved),
        "waiting": list(imported.waiting),
        "warnings": problems_json(definitions.warnings),
    }
