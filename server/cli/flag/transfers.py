"""The commands that carry flags from place to place: `flagstaff flag copy`, `promote`, `import` and `export`."""

from pathlib import Path
from typing import Annotated, Final

import typer

from server.cli.export import FormatName
from server.cli.files import STANDARD, read_file, write_file
from server.cli.flag.arguments import Keys, stub
from server.cli.options import given
from server.cli.remote import Place, Remote, remote_read, remote_write
from server.core.errors import InvalidRequest

COPY_HELP: Final = """Give flags the configuration that they have in another environment, as one change.

A flag stays on or off as it is, and one that is new there is off, unless --with-state is given. --dry-run is a preview.

\b
  flagstaff flag copy new-ui --from staging --environment production --dry-run
  flagstaff flag copy --all --from production --environment canary --with-state --with-segments
"""

PROMOTE_HELP: Final = """Bring flags from one environment to the next: their rules and the segments that these need.

The flags stay on or off as they are there. --dry-run is a preview.

\b
  flagstaff flag promote new-ui --from staging --to production --dry-run
  flagstaff flag promote new-ui new-search --from staging --to production --reason "Tested"
"""

IMPORT_HELP: Final = """Bring a document's flags and segments into an environment of a running server, all or none.

The document is in Flagstaff's format or flagd's, JSON or YAML, of up to 4 MiB. What it does not have stays, unless
--replace is given. For larger ones, and where there is no environment yet, see `flagstaff import`.

\b
  flagstaff flag import flags.yaml --environment staging
  flagstaff flag import demo.flagd.json --lenient --dry-run
  cat flags.json | flagstaff flag import -
"""

EXPORT_HELP: Final = """Write an environment's flags as a document, from a running server.

\b
  flagstaff flag export --environment production --output flags.json
  flagstaff flag export --format flagd --output demo.flagd.json
  flagstaff flag export --all --output exported          exported/production.json, exported/staging.json, ...
"""

From = Annotated[str, given("--from", "The environment that they are copied from.")]
CopyRerandomise = Annotated[
    bool, given("--rerandomise", "Also what their rules hash: units get other variants than they have there.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command("copy", help=COPY_HELP)(copy)
    app.command("promote", help=PROMOTE_HELP)(promote)
    app.command("import", help=IMPORT_HELP)(import_)
    app.command("export", help=EXPORT_HELP)(export)


@remote_write()
def copy(
    server: Remote,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="The flags' keys.")] = None,
    *,
    source: From,
    all: Annotated[bool, given("--all", "All flags that are not archived.")] = False,
    with_state: Annotated[bool, given("--with-state", "Also whether they are on.")] = False,
    with_segments: Annotated[bool, given("--with-segments", "Also the segments that their rules refer to.")] = False,
    rerandomise: CopyRerandomise = False,
) -> None:
    """Copy them."""
    if all == bool(keys):
        raise typer.BadParameter("name flags, or give --all")
    wanted = {"with_state": with_state, "with_segments": with_segments, "rerandomise": rerandomise}
    _copy(server, keys or [], source, server.environment, **wanted)


@remote_write(Place.PROJECT)
def promote(
    server: Remote,
    keys: Keys,
    *,
    source: From,
    to: Annotated[str, given("--to", "The environment that they are copied to.")],
    rerandomise: CopyRerandomise = False,
) -> None:
    """Copy them with what they need."""
    _copy(server, keys, source, to, with_segments=True, rerandomise=rerandomise)


@remote_write(versioned=False)
def import_(
    server: Remote,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, or - for standard input.")],
    *,
    lenient: Annotated[bool, given("--lenient", "Accept what flagd only warns about, and print the warnings.")] = False,
    replace: Annotated[bool, given("--replace", "Remove the flags and segments that the file does not have.")] = False,
    replace_variants: Annotated[
        bool, given("--replace-variants", "Let a variant that other environments serve too get another value.")
    ] = False,
) -> None:
    """Send the document."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.ImportFlagsRequest(
        project=server.project,
        environment=server.environment,
        document=read_file(file),
        name="" if file == STANDARD else Path(file).name,
        lenient=lenient,
        replace=replace,
        replace_variants=replace_variants,
        options=server.options(),
    )
    reply = stub(server).ImportFlags(request)
    counts = f"{len(reply.created)} created, {len(reply.updated)} updated, {len(reply.removed)} removed"
    server.done(reply, f"{counts}, {reply.unchanged} as they were")


@remote_read()
def export(
    server: Remote,
    *,
    format: Annotated[FormatName, given("--format", "Whose format.")] = FormatName.FLAGSTAFF,
    output: Annotated[
        str, given("--output", "The file, or - for standard output; with --all a directory.", "-o")
    ] = STANDARD,
    all: Annotated[bool, given("--all", "All environments of the project, a file each.")] = False,
) -> None:
    """Ask for the documents and write them."""
    from protos.flagstaff.v1 import flags_pb2 as messages

    if all and output == STANDARD:
        raise typer.BadParameter("--all writes a file for each environment: give the directory by --output")
    request = messages.ExportFlagsRequest(
        project=server.project,
        environment="" if all else server.environment,
        format=messages.DocumentFormat.Value(f"DOCUMENT_FORMAT_{format.name}"),
    )
    reply = stub(server).ExportFlags(request)
    if not all:
        write_file(output, reply.exports[0].document.decode("utf-8"))
        return
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    for each in reply.exports:
        if Path(each.environment).name != each.environment:
            # A name is the server's word, and must not lead out of the directory.
            raise InvalidRequest(f"environment {each.environment!r} cannot be a file's name")
        path = directory / f"{each.environment}.json"
        write_file(str(path), each.document.decode("utf-8"))
        typer.echo(f"{path}: {each.environment} at revision {each.revision}")


def _copy(server: Remote, keys: list[str], source: str, target: str, **wanted: bool) -> None:
    from protos.flagstaff.v1 import flags_pb2 as messages

    request = messages.CopyFlagConfigsRequest(
        project=server.project,
        environment=target,
        from_environment=source,
        keys=keys,
        **wanted,
        options=server.options(),
    )
    named = ", ".join(keys) or "flags"
    server.done(stub(server).CopyFlagConfigs(request), f"{named} copied from {source} to {target}")
