"""The commands `flagstaff change-request ...`: changes that others must agree to."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.files import read_file
from server.cli.instants import read_instant
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.core.counting import counted

if TYPE_CHECKING:
    from protos.flagstaff.v1 import change_requests_pb2

HELP: Final = f"""Review and apply changes that others must agree to.

Where an environment asks for approvals, a change answers with the id of a change request instead of being made.
{ABOUT_SERVERS}

\b
  flagstaff change-request list --state open
  flagstaff change-request show cr_0123456789
  flagstaff change-request approve cr_0123456789 --comment "Looks right"
  flagstaff change-request apply cr_0123456789
  flagstaff change-request apply cr_0123456789 --at 2026-12-01T09:00:00Z
"""

LIST_HELP: Final = """List change requests, the newest first.

\b
  flagstaff change-request list --state open --state approved
  flagstaff change-request list --environment production --flag new-checkout
"""

SHOW_HELP: Final = """Show what a change request would change, who has agreed, and all that happened to it.

\b
  flagstaff change-request show cr_0123456789
  flagstaff change-request show cr_0123456789 --json
"""

COMMENT_HELP: Final = """Say something to a change request.

\b
  flagstaff change-request comment cr_0123456789 "Why now?"
"""

APPROVE_HELP: Final = """Agree to what a change request asks for now. One's own approval does not count.

\b
  flagstaff change-request approve cr_0123456789
  flagstaff change-request approve cr_0123456789 --expected-version 2      only if it asks for what was read
"""

REJECT_HELP: Final = """Say no to a change request, and why. Its authors may ask for something else.

\b
  flagstaff change-request reject cr_0123456789 --comment "Not in December"
"""

WITHDRAW_HELP: Final = """Take a change request back: for its authors and for administrators.

\b
  flagstaff change-request withdraw cr_0123456789
"""

UNSCHEDULE_HELP: Final = """Leave it to somebody to apply a change request.

\b
  flagstaff change-request unschedule cr_0123456789
"""

UPDATE_HELP: Final = """Ask for something else, or for the same against what is there now. Drops approvals.

\b
  flagstaff change-request update cr_0123456789                      what it would change has changed: ask anew
  flagstaff change-request update cr_0123456789 --file flags.yaml    other content
"""

APPLY_HELP: Final = """Make the change, now or at a time.

\b
  flagstaff change-request apply cr_0123456789
  flagstaff change-request apply cr_0123456789 --at 2026-12-01T09:00:00Z
  flagstaff change-request apply cr_0123456789 --bypass-approval --reason "Checkout is down"
"""

app = group(HELP)

Id = Annotated[str, typer.Argument(metavar="ID", help="The change request's id.")]
Comment = Annotated[str, given("--comment", "What there is to say.")]


class StateName(StrEnum):
    """The states, as an option's choices."""

    OPEN = "open"
    APPROVED = "approved"
    APPLIED = "applied"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    STALE = "stale"
    EXPIRED = "expired"


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_requests(
    server: Remote,
    *,
    state: Annotated[list[StateName] | None, given("--state", "In this state. Repeatable.")] = None,
    author: Annotated[str, given("--author", "Asked for by, such as token:k3Jd92Lq.")] = "",
    environment: Annotated[str, given("--environment", "That would change something there.")] = "",
    flag: Annotated[str, given("--flag", "That would change this flag.")] = "",
    segment: Annotated[str, given("--segment", "That would change this segment.")] = "",
    limit: Annotated[int, given("--limit", "How many at most.", min=1)] = 100,
) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import change_requests_pb2 as messages

    if flag and segment:
        raise typer.BadParameter("name a --flag or a --segment")
    whole = messages.ListChangeRequestsResponse()
    request = messages.ListChangeRequestsRequest(
        project=server.project,
        environment=environment,
        author=author,
        states=[messages.ChangeRequest.State.Value(f"STATE_{each.name}") for each in state or ()],
        kind="flag" if flag else "segment" if segment else "",
        key=flag or segment,
    )
    while True:
        request.page_size = min(100, limit - len(whole.change_requests))
        page = _stub(server).ListChangeRequests(request)
        whole.change_requests.extend(page.change_requests)
        whole.total_size = page.total_size
        request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.change_requests) >= limit:
            break
    if server.prints(whole):
        return
    columns = ("id", "state", "title", "authors", "environments", "created")
    print_table(columns, [_row(each) for each in whole.change_requests])
    typer.echo(f"\n{len(whole.change_requests)} change request{'s' * (len(whole.change_requests) != 1)}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, id: Id) -> None:
    """Read one and print it."""
    from protos.flagstaff.v1 import change_requests_pb2 as messages

    reply = _stub(server).GetChangeRequest(messages.GetChangeRequestRequest(project=server.project, id=id))
    if not server.prints(reply):
        _print_detail(reply)


@app.command("comment", help=COMMENT_HELP)
@remote_write(Place.PROJECT)
def comment(server: Remote, id: Id, text: Annotated[str, typer.Argument(metavar="TEXT")]) -> None:
    """Say it."""
    _done(server, "CommentOnChangeRequest", id, text=text)


@app.command("approve", help=APPROVE_HELP)
@remote_write(Place.PROJECT)
def approve(server: Remote, id: Id, comment: Comment = "") -> None:
    """Say yes."""
    _done(server, "ApproveChangeRequest", id, text=comment)


@app.command("reject", help=REJECT_HELP)
@remote_write(Place.PROJECT)
def reject(server: Remote, id: Id, comment: Annotated[str, given("--comment", "Why.")]) -> None:
    """Say no."""
    _done(server, "RejectChangeRequest", id, text=comment)


@app.command("withdraw", help=WITHDRAW_HELP)
@remote_write(Place.PROJECT)
def withdraw(server: Remote, id: Id, comment: Comment = "") -> None:
    """Take it back."""
    _done(server, "WithdrawChangeRequest", id, text=comment)


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.ENVIRONMENT)
def update(
    server: Remote,
    id: Id,
    file: Annotated[str, given("--file", "A file with flags and segments to put, or - for standard input.")] = "",
) -> None:
    """Ask for something else."""
    from protos.flagstaff.v1 import simulation_pb2 as simulation

    content: dict[str, Any] = {}
    if file:
        text = read_file(file).decode("utf-8", "replace")
        content = {"environment": server.environment, "document": simulation.DocumentProposal(text=text)}
    _done(server, "UpdateChangeRequest", id, **content)


@app.command("apply", help=APPLY_HELP)
@remote_write(Place.PROJECT)
def apply(
    server: Remote, id: Id, at: Annotated[str, given("--at", "When, with its time zone: 2026-12-01T09:00:00Z.")] = ""
) -> None:
    """Make the change, or have it made."""
    if at:
        from google.protobuf.timestamp_pb2 import Timestamp

        stamp = Timestamp()
        stamp.FromDatetime(read_instant(at, "--at"))
        _done(server, "ScheduleChangeRequest", id, apply_at=stamp)
    else:
        _done(server, "ApplyChangeRequest", id)


@app.command("unschedule", help=UNSCHEDULE_HELP)
@remote_write(Place.PROJECT)
def unschedule(server: Remote, id: Id) -> None:
    """Leave it to somebody."""
    _done(server, "ScheduleChangeRequest", id)


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.change_requests_pb2_grpc import ChangeRequestServiceStub

    return ChangeRequestServiceStub(server.channel)


def _done(server: Remote, method: str, id: str, **fields: Any) -> None:
    from protos.flagstaff.v1 import change_requests_pb2 as messages

    request = getattr(messages, f"{method}Request")(project=server.project, id=id, options=server.options(), **fields)
    reply = getattr(_stub(server), method)(request)
    server.done(reply, f"change request {id} is {_state(reply.change_request)}")


def _state(request: "change_requests_pb2.ChangeRequest") -> str:
    from protos.flagstaff.v1 import change_requests_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.ChangeRequest.State.DESCRIPTOR, request.state)


def _row(request: "change_requests_pb2.ChangeRequest") -> list[str]:
    environments = ", ".join(each.environment for each in request.differences)
    return [
        request.id,
        _state(request),
        request.title or "-",
        ", ".join(request.authors),
        environments or "-",
        _shown(request.created_at),
    ]


def _shown(stamp: Any) -> str:
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M} UTC"


def _print_detail(reply: "change_requests_pb2.GetChangeRequestResponse") -> None:
    request = reply.change_request
    typer.echo(f"{request.id}: {request.title or '(no reason given)'}")
    note = f" ({request.note})" if request.note else ""
    typer.echo(f"{_state(request)}{note}, asked for by {', '.join(request.authors)}, {_shown(request.created_at)}")
    for difference in request.differences:
        typer.echo(f"\nin {difference.environment}:")
        for line in difference.lines:
            typer.echo(f"  {line}")
    typer.echo("")
    for each in reply.approvals:
        counting = f": {', '.join(each.approvers)}" if each.approvers else ""
        needed = counted(each.needed, "approval")
        typer.echo(f"{each.environment} asks for {needed} and has {len(each.approvers)}{counting}")
    for moved in reply.moved:
        typer.echo(f"changed meanwhile: {moved.kind} {moved.key} in {moved.environment}; update the request")
    if request.HasField("apply_at"):
        typer.echo(f"to be applied at {_shown(request.apply_at)}, as {request.scheduled_by} said")
    for step in reply.steps:
        text = f": {step.text}" if step.text else ""
        # The last yes that was needed has a name of its own, which says little to people.
        happening = "approved, which is enough" if step.happening == "completed" else step.happening
        typer.echo(f"{_shown(step.at)}  {step.actor} {happening}{text}")
