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

A project's environments are changed by one commit, whole or not at all; where one of them asks for approvals, all of it
becomes one change request (--only brings the others). The command ends at the first project that is refused, and can be
run again. Files of more than 4 MiB in all are too large for one commit: each environment is one then.

\b
  flagstaff apply flags                 shows the plan and asks
  flagstaff apply flags --yes --reason "$CI_COMMIT_SHA"

{ABOUT_SERVERS}
"""

REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024 - 64 * 1024
"""Of the files of one commit: a message has room for them, and for what is said about them."""

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory.")]
Only = Annotated[list[str] | None, given("--only", "PROJECT/ENVIRONMENT: only this one; can be given several times.")]
ReplaceVariants = Annotated[
    bool, given("--replace-variants", "Let a variant that several environments serve get another value.")
]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Files that are one commit."""

    files: "tuple[EnvironmentFile, ...]"

    @property
    def project(self) -> str:
        return self.files[0].project

    @property
    def name(self) -> str:
        """What a request id is about."""
        return self.project if len(self.files) > 1 else f"{self.project}/{self.files[0].environment}"


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
    """Try each project's files and tell what differs."""
    batches = _chosen(directory, only, lenient=lenient)
    planned = [_import(server, each, _Wanted(lenient, replace_variants), dry_run=True) for each in batches]
    if server.as_json:
        print_json(_described(batches, planned))
    else:
        _print(batches, planned, would=True)
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
    """Show the plan, ask, then import what differs."""
    batches = _chosen(directory, only, lenient=lenient)
    wanted = _Wanted(lenient, replace_variants)
    planned = [_import(server, each, wanted, dry_run=True) for each in batches]
    differing = [batch for batch, reply in zip(batches, planned, strict=True) if _differs(reply)]
    if not server.as_json:
        _print(batches, planned, would=True)
    if not differing or server.asked.dry_run:
        if server.as_json:
            print_json(_described(batches, planned))
        return
    _confirm(sum(_count(batch, reply) for batch, reply in zip(batches, planned, strict=True)), yes=yes)
    done = [_import(server, batch, wanted, dry_run=False) for batch in differing]
    if server.as_json:
        print_json(_described(differing, done))
    else:
        typer.echo()
        _print(differing, done, would=False)


def _chosen(directory: Path, only: Sequence[str] | None, *, lenient: bool) -> list[_Batch]:
    from server.operations.directories import read_directory

    files = read_directory(directory, lenient=lenient)
    names = {f"{file.project}/{file.environment}" for file in files}
    unknown = sorted(set(only or ()) - names)
    if unknown:
        raise InvalidRequest(f"{directory} has no file for {', '.join(unknown)}; it has: {', '.join(sorted(names))}")
    projects: dict[str, list[EnvironmentFile]] = {}
    for file in files:
        if not only or f"{file.project}/{file.environment}" in only:
            projects.setdefault(file.project, []).append(file)
    return [batch for each in projects.values() for batch in _batches(each)]


def _batches(files: "Sequence[EnvironmentFile]") -> list[_Batch]:
    if sum(len(file.text) for file in files) <= REQUEST_BYTES_MAX:
        return [_Batch(tuple(files))]
    project = files[0].project
    typer.echo(f"warning: {project}: its files are too large for one commit; each environment is one", err=True)
    return [_Batch((file,)) for file in files]


def _import(server: Remote, batch: _Batch, wanted: _Wanted, *, dry_run: bool) -> Any:
    from protos.flagstaff.v1 import flags_pb2 as messages
    from protos.flagstaff.v1.flags_pb2_grpc import FlagServiceStub

    options = server.options()
    options.dry_run = dry_run
    if options.request_id:
        # Each project is a commit of its own.
        options.request_id = f"{options.request_id}/{batch.name}"
    first, *others = batch.files
    return FlagServiceStub(server.channel).ImportFlags(
        messages.ImportFlagsRequest(
            project=first.project,
            environment=first.environment,
            document=first.text,
            name=first.name,
            lenient=wanted.lenient,
            replace=True,
            replace_variants=wanted.replace_variants,
            others=[
                messages.EnvironmentDocument(environment=each.environment, document=each.text, name=each.name)
                for each in others
            ],
            options=options,
        )
    )


def _count(batch: _Batch, reply: Any) -> int:
    """How many of its environments differ."""
    return sum(file.environment in reply.result.revisions for file in batch.files)


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


def _print(batches: Sequence[_Batch], replies: Sequence[Any], *, would: bool) -> None:
    for batch, reply in zip(batches, replies, strict=True):
        for warning in reply.result.warnings:
            typer.echo(f"warning: {batch.name}: {warning}", err=True)
        if reply.result.change_request:
            typer.echo(f"{batch.name}: change request {reply.result.change_request} waits for approval")
        for each in reply.environments:
            _print_environment(f"{batch.project}/{each.environment}", each, reply.result, would=would)
    if would:
        count = sum(_count(batch, reply) for batch, reply in zip(batches, replies, strict=True))
        file_count = sum(len(batch.files) for batch in batches)
        typer.echo(f"{count} of {file_count} environments differ" if count else "nothing differs")


def _print_environment(name: str, imported: Any, result: Any, *, would: bool) -> None:
    revision = result.revisions.get(imported.environment, 0)
    if not revision and not imported.changes:
        typer.echo(f"{name}: as the file says")
        return
    if revision:
        typer.echo(f"{name}: {'would be' if would else 'is'} at revision {revision}")
    else:
        typer.echo(f"{name}: would change")
    for change in imported.changes or ["what its flags share with the other environments"]:
        typer.echo(f"  {change}")


def _described(batches: Sequence[_Batch], replies: Sequence[Any]) -> list[Json]:
    from server.cli.documents import as_document

    return [
        {"project": batch.project, "files": [file.name for file in batch.files], "reply": as_document(reply)}
        for batch, reply in zip(batches, replies, strict=True)
    ]
