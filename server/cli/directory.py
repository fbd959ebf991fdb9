"""The commands `flagstaff plan` and `flagstaff apply`: bring environments to what a directory of files says."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.options import Lenient, given
from server.cli.output import EXIT_REFUSED, print_json
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.core.errors import InvalidRequest
from server.core.json import Json

if TYPE_CHECKING:
    from server.operations.directories import EnvironmentFile

PLAN_HELP: Final = f"""Say what `flagstaff apply` would do, and change nothing.

The directory has a file for each environment, DIR/PROJECT/ENVIRONMENT.yaml, as `flagstaff export --all DIR` writes
them. An environment without a file is left alone. Flags and segments that a file does not have would be removed.

\b
  flagstaff plan flags
  flagstaff plan flags --only shop/staging
  flagstaff plan flags --check          exit code 1 when anything differs: drift, for a pipeline

{ABOUT_SERVERS}
"""

APPLY_HELP: Final = f"""Bring environments to what the files of a directory say, after showing what that changes.

Each environment is one commit, whole or not at all; the command ends at the first that is refused, and can be run
again.

\b
  flagstaff apply flags                 shows the plan and asks
  flagstaff apply flags --yes --reason "$CI_COMMIT_SHA"

{ABOUT_SERVERS}
"""

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory.")]
Only = Annotated[list[str] | None, given("--only", "PROJECT/ENVIRONMENT: only this one; can be given several times.")]
ReplaceVariants = Annotated[
    bool, given("--replace-variants", "Let a variant that several environments serve get another value.")
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    lenient: bool
    replace_variants: bool


@remote_read(Place.SERVER)
def plan(
    server: Remote,
    directory: Directory,
    *,
    only: Only = None,
    lenient: Lenient = False,
    replace_variants: ReplaceVariants = False,
    check: Annotated[bool, given("--check", "End with exit code 1 when anything differs.")] = False,
) -> None:
    """Try each file and tell what differs."""
    files = _chosen(directory, only, lenient=lenient)
    planned = _plan(server, files, _Wanted(lenient, replace_variants))
    if server.as_json:
        print_json(_described(files, planned))
    else:
        _print(files, planned, would=True)
    if check and any(_differs(reply) for reply in planned):
        raise typer.Exit(EXIT_REFUSED)


@remote_write(Place.SERVER, versioned=False)
def apply(
    server: Remote,
    directory: Directory,
    *,
    only: Only = None,
    lenient: Lenient = False,
    replace_variants: ReplaceVariants = False,
    yes: Annotated[bool, given("--yes", "Do not ask.", "-y")] = False,
) -> None:
    """Show the plan, ask, then import each file that differs."""
    files = _chosen(directory, only, lenient=lenient)
    wanted = _Wanted(lenient, replace_variants)
    planned = _plan(server, files, wanted)
    differing = [file for file, reply in zip(files, planned, strict=True) if _differs(reply)]
    if not server.as_json:
        _print(files, planned, would=True)
    if not differing or server.asked.dry_run:
        if server.as_json:
            print_json(_described(files, planned))
        return
    _confirm(len(differing), yes=yes)
    done = [_import(server, file, wanted, dry_run=False) for file in differing]
    if server.as_json:
        print_json(_described(differing, done))
    else:
        typer.echo()
        _print(differing, done, would=False)


def _chosen(directory: Path, only: Sequence[str] | None, *, lenient: bool) -> "list[EnvironmentFile]":
    from server.operations.directories import read_directory

    files = read_directory(directory, lenient=lenient)
    names = {f"{file.project}/{file.environment}" for file in files}
    unknown = sorted(set(only or ()) - names)
    if unknown:
        raise InvalidRequest(f"{directory} has no file for {', '.join(unknown)}; it has: {', '.join(sorted(names))}")
    return [file for file in files if not only or f"{file.project}/{file.environment}" in only]


def _plan(server: Remote, files: "Sequence[EnvironmentFile]", wanted: _Wanted) -> list[Any]:
    return [_import(server, file, wanted, dry_run=True) for file in files]


def _import(server: Remote, file: "EnvironmentFile", wanted: _Wanted, *, dry_run: bool) -> Any:
    from protos.flagstaff.v1 import flags_pb2 as messages
    from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub

    options = server.options()
    options.dry_run = dry_run
    if options.request_id:
        # Each environment is a commit of its own.
        options.request_id = f"{options.request_id}/{file.project}/{file.environment}"
    return FlagServiceStub(server.channel).ImportFlags(
        messages.ImportFlagsRequest(
            project=file.project,
            environment=file.environment,
            document=file.text,
            name=file.name,
            lenient=wanted.lenient,
            replace=True,
            replace_variants=wanted.replace_variants,
            options=options,
        )
    )


def _differs(reply: Any) -> bool:
    from protos.flagstaff.v1 import common_pb2 as common

    return bool(reply.result.outcome != common.OUTCOME_UNCHANGED)


def _confirm(count: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest("nobody can be asked here; give --yes to apply without a question")
    what = "this environment" if count == 1 else f"these {count} environments"
    typer.confirm(f"Change {what}?", abort=True)


def _print(files: "Sequence[EnvironmentFile]", replies: Sequence[Any], *, would: bool) -> None:
    from protos.flagstaff.v1 import common_pb2 as common

    for file, reply in zip(files, replies, strict=True):
        name, result = f"{file.project}/{file.environment}", reply.result
        for warning in result.warnings:
            typer.echo(f"warning: {name}: {warning}", err=True)
        if result.outcome == common.OUTCOME_UNCHANGED:
            typer.echo(f"{name}: as the file says")
            continue
        if result.outcome == common.OUTCOME_REQUESTED:
            typer.echo(f"{name}: change request {result.change_request} waits for approval")
        else:
            revision = result.revisions.get(file.environment, 0)
            typer.echo(f"{name}: {'would be' if would else 'is'} at revision {revision}")
        for change in result.changes:
            typer.echo(f"  {change}")
    if would:
        count = sum(_differs(reply) for reply in replies)
        typer.echo(f"{count} of {len(files)} environments differ" if count else "nothing differs")


def _described(files: "Sequence[EnvironmentFile]", replies: Sequence[Any]) -> list[Json]:
    from server.cli.documents import as_document

    return [
        {"project": file.project, "environment": file.environment, "file": file.name, "reply": as_document(reply)}
        for file, reply in zip(files, replies, strict=True)
    ]
