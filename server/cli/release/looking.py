"""Look at releases: all of them, one with its gates, one as it goes on, its log."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.options import given
from server.cli.output import EXIT_REFUSED, print_table
from server.cli.release.arguments import Id, spent, state_name, stub
from server.cli.remote import Place, Remote, remote_read

if TYPE_CHECKING:
    from rich.console import RenderableType

    from protos.flagstaff.v1 import releases_pb2 as messages

LIST_HELP: Final = """List releases, the newest first.

\b
  flagstaff release list --state running
  flagstaff release list --environment production --flag new-checkout
"""

STATUS_HELP: Final = """Show where a release is, what it waits for, and when it would be done.

\b
  flagstaff release status rel_0123456789
  flagstaff release status rel_0123456789 --watch      until it has ended; exit code 1 when it was not completed
"""

LOG_HELP: Final = """Show all that happened to a release, with the evidence for each decision.

\b
  flagstaff release log rel_0123456789
"""

ENDED: Final = ("completed", "rolled-back", "aborted")


class StateName(StrEnum):
    """The states, as an option's choices."""

    CREATED = "created"
    AWAITING_START = "awaiting-start"
    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting-approval"
    HELD = "held"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled-back"
    ABORTED = "aborted"


@remote_read(Place.PROJECT)
def list_releases(
    server: Remote,
    *,
    state: Annotated[list[StateName] | None, given("--state", "In this state. Repeatable.")] = None,
    environment: Annotated[str, given("--environment", "That change something there.")] = "",
    flag: Annotated[str, given("--flag", "That change this flag.")] = "",
    limit: Annotated[int, given("--limit", "How many at most.", min=1)] = 100,
) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    whole = messages.ListReleasesResponse()
    request = messages.ListReleasesRequest(
        project=server.project,
        environment=environment,
        flag_key=flag,
        states=[messages.ReleaseState.Value(f"RELEASE_STATE_{each.name}") for each in state or ()],
    )
    while True:
        request.page_size = min(100, limit - len(whole.releases))
        page = stub(server).ListReleases(request)
        whole.releases.extend(page.releases)
        request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.releases) >= limit:
            break
    if server.prints(whole):
        return
    rows = [
        [each.id, state_name(each.state), each.plan.name, _place(each), _ends(each), each.owner]
        for each in whole.releases
    ]
    print_table(("id", "state", "name", "step", "done", "owner"), rows)
    typer.echo(f"\n{len(rows)} release{'s' * (len(rows) != 1)}")


@remote_read(Place.PROJECT)
def status(
    server: Remote, id: Id, *, watch: Annotated[bool, given("--watch", "Show it as it goes on, until it ends.")] = False
) -> None:
    """Show it, or follow it."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    if watch:
        _follow(server, stub(server).WatchRelease(messages.WatchReleaseRequest(project=server.project, id=id)))
        return
    reply = stub(server).GetRelease(messages.GetReleaseRequest(project=server.project, id=id))
    if not server.prints(reply.release):
        _print(_lines(reply.release))


@remote_read(Place.PROJECT)
def log(server: Remote, id: Id) -> None:
    """Show what happened."""
    from protos.flagstaff.v1 import releases_pb2 as messages

    reply = stub(server).GetRelease(messages.GetReleaseRequest(project=server.project, id=id))
    if server.prints(reply):
        return
    for event in reply.events:
        typer.echo(_event(event))
        for gate in event.gates:
            typer.echo(f"    {'holds' if gate.holds else 'waits'}  {gate.text}")
    said = "gives" if reply.log_agrees else "does NOT give"
    typer.echo(f"\nput in again, the log {said} the same decisions")


def _follow(server: Remote, stream: Any) -> None:
    """A live view on a terminal, a line for each event elsewhere; ends with the release."""
    from server.cli.documents import as_document
    from server.cli.output import print_json

    ended = ""
    if sys.stdout.isatty() and not server.as_json:
        from rich.live import Live

        with Live(auto_refresh=False) as live:
            for reply in stream:
                live.update(_view(reply.release), refresh=True)
                if (ended := state_name(reply.release.state)) in ENDED:
                    break
    else:
        for reply in stream:
            if server.as_json:
                print_json(as_document(reply), indent=None)
            else:
                _print([_event(each) for each in reply.events])
            sys.stdout.flush()
            if (ended := state_name(reply.release.state)) in ENDED:
                break
    stream.cancel()
    if ended != "completed":
        raise typer.Exit(EXIT_REFUSED)


def _view(release: "messages.Release") -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    steps = Table.grid(padding=(0, 2))
    for index, step in enumerate(release.plan.steps, start=1):
        marker = "✓" if index < release.step else "▶" if index == release.step else " "
        style = "bold" if index == release.step else "dim" if index > release.step else ""
        steps.add_row(Text(marker), Text(f"{index}. {step.name}", style=style))
    done = len(release.plan.steps) if state_name(release.state) == "completed" else max(0, release.step - 1)
    bar = ProgressBar(total=len(release.plan.steps), completed=done, width=40)
    return Group(*(Text(line) for line in _head(release)), bar, steps, *(Text(line) for line in _waits(release)))


def _lines(release: "messages.Release") -> list[str]:
    steps = [
        f"{'>' if index == release.step else ' '} {index}. {step.name}"
        for index, step in enumerate(release.plan.steps, start=1)
    ]
    return [*_head(release), *steps, *_waits(release)]


def _head(release: "messages.Release") -> list[str]:
    note = f": {release.note}" if release.note else ""
    blocked = [f"blocked: {release.blocked}"] if release.blocked else []
    return [
        f"{release.plan.name} ({release.id})",
        f"{state_name(release.state)}{note}, {_place(release)}, done {_ends(release)}",
        *blocked,
    ]


def _waits(release: "messages.Release") -> list[str]:
    return [f"{'holds' if gate.holds else 'waits'}  {gate.kind}: {gate.text}" for gate in release.gates]


def _place(release: "messages.Release") -> str:
    count = len(release.plan.steps)
    return f"step {release.step} of {count}" if release.step else f"before the first of {count} steps"


def _ends(release: "messages.Release") -> str:
    if not release.HasField("projected_end"):
        return f"{release.ended_at.ToDatetime():%Y-%m-%d %H:%M} UTC" if release.HasField("ended_at") else "-"
    end = release.projected_end.ToDatetime(tzinfo=UTC)
    left = spent((end - datetime.now(UTC)).total_seconds())
    return f"{'at the earliest ' if release.projection_is_earliest else ''}{end:%Y-%m-%d %H:%M} UTC (in {left})"


def _event(event: "messages.ReleaseEvent") -> str:
    moved = f" {event.from_step} -> {event.to_step}" if event.from_step != event.to_step else ""
    text = f": {event.text}" if event.text else ""
    return f"{event.at.ToDatetime():%Y-%m-%d %H:%M:%S} UTC  {event.happening}{moved}, {event.actor}{text}"


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)
