"""The commands `flagstaff launch ...`: plans over several flags and environments."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.cli.files import read_file
from server.cli.launch_files import read_instant, read_length, read_plan_file
from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write

if TYPE_CHECKING:
    from protos.flagstaff.v1 import launch_plans_pb2

HELP: Final = f"""Plan launches: what changes in several flags and environments, around one moment.

A plan is a draft until it is started; then it does each item at its time, and is held where it cannot. {ABOUT_SERVERS}

\b
  flagstaff launch create new-checkout.yaml --dry-run     what it would do, and what stands in the way
  flagstaff launch create new-checkout.yaml
  flagstaff launch start lp_0123456789
  flagstaff launch shift lp_0123456789 --by 7d
  flagstaff launch calendar > launches.ics
"""

CREATE_HELP: Final = """Make a plan from a file: a draft, which does nothing until it is started.

\b
  name: New checkout
  timeZone: Europe/Berlin
  launchAt: 2026-12-01T10:00
  businessHours: MON-FRI 09:00-17:00 Europe/Berlin
  checks:
    - {id: legal, text: Legal agrees, approvers: ["token:k3Jd92Lq"]}
  items:
    - id: staging
      at: T-7d
      do:
        - EnableFlags: {environment: staging, keys: [new-checkout]}
    - id: live
      at: T-0
      do:
        - EnableFlags: {environment: production, keys: [new-checkout]}

`do` has calls of the API by their names, with the fields of their requests; `start: rel_0123456789` in its place starts
a release that was drawn up. More in the file: description, owner, closures, outside (move or report), missed (hold, run
or skip), moved (report or hold), grace and remindBefore.

\b
  flagstaff launch create new-checkout.yaml --dry-run
"""

UPDATE_HELP: Final = """Ask for what a file says now, of a draft or a held plan. Drops approvals and answers.

An item without `do` or `start` keeps what it does.

\b
  flagstaff launch update lp_0123456789 new-checkout.yaml
"""

LIST_HELP: Final = """List launch plans, the newest first.

\b
  flagstaff launch list --state scheduled --state held
"""

SHOW_HELP: Final = """Show a plan: its items and when they happen, what each will change, what stands in the way.

\b
  flagstaff launch show lp_0123456789
"""

START_HELP: Final = """Have a plan carried on by itself, with your rights.

\b
  flagstaff launch start lp_0123456789
"""

HOLD_HELP: Final = """Stop a plan until somebody resumes it.

\b
  flagstaff launch hold lp_0123456789 --reason "Checkout is slow"
"""

RESUME_HELP: Final = """Have a held plan go on, from what is there now. What is due by then happens at once.

\b
  flagstaff launch resume lp_0123456789
"""

SHIFT_HELP: Final = """Put the launch elsewhere, and so all that is still to be done.

\b
  flagstaff launch shift lp_0123456789 --by 7d
  flagstaff launch shift lp_0123456789 --to 2026-12-08T10:00     in the plan's time zone
"""

SKIP_HELP: Final = """Leave items out.

\b
  flagstaff launch skip lp_0123456789 staging
"""

CANCEL_HELP: Final = """End a plan. What it did stays.

\b
  flagstaff launch cancel lp_0123456789 --reason "Postponed to spring"
"""

APPROVE_HELP: Final = """Agree to a plan, where environments ask for approvals. One's own approval does not count.

\b
  flagstaff launch approve lp_0123456789 --comment "Fine"
"""

GO_HELP: Final = """Say go to a point of a plan's list: for those whom it names.

\b
  flagstaff launch go lp_0123456789 legal
"""

NO_GO_HELP: Final = """Say no to a point of a plan's list, and why; a plan that is under way is held.

\b
  flagstaff launch no-go lp_0123456789 legal --comment "The terms are not signed"
"""

CALENDAR_HELP: Final = """Write plans as an iCalendar file: one, or all that are not over.

\b
  flagstaff launch calendar > launches.ics
  flagstaff launch calendar lp_0123456789 > launch.ics
"""

app = group(HELP)

Id = Annotated[str, typer.Argument(metavar="ID", help="The plan's id.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="JSON or YAML, or - for standard input.")]
Comment = Annotated[str, given("--comment", "What there is to say.")]
CheckId = Annotated[str, typer.Argument(metavar="CHECK", help="Which point of the list.")]


class StateName(StrEnum):
    """The states, as an option's choices."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    HELD = "held"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@app.command("create", help=CREATE_HELP)
@remote_write(Place.PROJECT)
def create(server: Remote, file: File) -> None:
    """Keep it."""
    spec = read_plan_file(read_file(file), name=file, project=server.project)
    reply = _call(server, "CreateLaunchPlan", spec=spec)
    _told(server, reply, f"launch plan {reply.launch_plan.id} is a draft")


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.PROJECT)
def update(server: Remote, id: Id, file: File) -> None:
    """Ask for something else."""
    spec = read_plan_file(read_file(file), name=file, project=server.project)
    _told(server, _call(server, "UpdateLaunchPlan", id=id, spec=spec))


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_(
    server: Remote,
    state: Annotated[list[StateName] | None, given("--state", "In this state; may be repeated.")] = None,
    limit: Annotated[int, given("--limit", "How many at most.", min=1)] = 100,
) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import launch_plans_pb2 as messages

    states = [messages.LaunchPlan.State.Value(f"STATE_{each.name}") for each in state or ()]
    request = messages.ListLaunchPlansRequest(project=server.project, states=states)
    whole = messages.ListLaunchPlansResponse()
    while True:
        request.page_size = min(100, limit - len(whole.launch_plans))
        page = _stub(server).ListLaunchPlans(request)
        whole.launch_plans.extend(page.launch_plans)
        request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.launch_plans) >= limit:
            break
    if server.prints(whole):
        return
    rows = [
        [each.id, _state(each), each.spec.name, _shown(each.spec.launch_at), each.spec.owner or "-", _next(each)]
        for each in whole.launch_plans
    ]
    print_table(("id", "state", "name", "launch", "owner", "next"), rows)
    typer.echo(f"\n{len(rows)} launch plan{'s' * (len(rows) != 1)}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, id: Id) -> None:
    """Read one and print it."""
    from protos.flagstaff.v1 import launch_plans_pb2 as messages

    reply = _stub(server).GetLaunchPlan(messages.GetLaunchPlanRequest(project=server.project, id=id))
    if server.prints(reply):
        return
    _print_head(reply.launch_plan)
    _print_items(reply)
    for step in reply.steps:
        what = f" {', '.join(step.items)}" if step.items else ""
        text = f": {step.text}" if step.text else ""
        typer.echo(f"{_shown(step.at)}  {step.actor} {step.happening}{what}{text}")


@app.command("start", help=START_HELP)
@remote_write(Place.PROJECT)
def start(server: Remote, id: Id) -> None:
    """Have it go on."""
    _told(server, _call(server, "StartLaunchPlan", id=id))


@app.command("hold", help=HOLD_HELP)
@remote_write(Place.PROJECT)
def hold(server: Remote, id: Id) -> None:
    """Stop it."""
    _told(server, _call(server, "HoldLaunchPlan", id=id))


@app.command("resume", help=RESUME_HELP)
@remote_write(Place.PROJECT)
def resume(server: Remote, id: Id) -> None:
    """Have it go on."""
    _told(server, _call(server, "ResumeLaunchPlan", id=id))


@app.command("shift", help=SHIFT_HELP)
@remote_write(Place.PROJECT)
def shift(
    server: Remote,
    id: Id,
    by: Annotated[str, given("--by", "So much later: 7d, 2h, -1d.")] = "",
    to: Annotated[str, given("--to", "The new T-0.")] = "",
) -> None:
    """Put it elsewhere."""
    from protos.flagstaff.v1 import launch_plans_pb2 as messages

    if bool(by) == bool(to):
        raise typer.BadParameter("say --by or --to, and not both")
    request = messages.ShiftLaunchPlanRequest(project=server.project, id=id, options=server.options())
    if by:
        request.by.seconds = read_length(by)
    else:
        plan = _stub(server).GetLaunchPlan(messages.GetLaunchPlanRequest(project=server.project, id=id)).launch_plan
        request.launch_at.FromDatetime(read_instant(to, plan.spec.time_zone))
    _told(server, _stub(server).ShiftLaunchPlan(request))


@app.command("skip", help=SKIP_HELP)
@remote_write(Place.PROJECT)
def skip(server: Remote, id: Id, items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Ids.")]) -> None:
    """Leave them out."""
    _told(server, _call(server, "SkipLaunchItems", id=id, items=items))


@app.command("cancel", help=CANCEL_HELP)
@remote_write(Place.PROJECT)
def cancel(server: Remote, id: Id) -> None:
    """End it."""
    _told(server, _call(server, "CancelLaunchPlan", id=id))


@app.command("approve", help=APPROVE_HELP)
@remote_write(Place.PROJECT)
def approve(server: Remote, id: Id, comment: Comment = "") -> None:
    """Say yes."""
    _told(server, _call(server, "ApproveLaunchPlan", id=id, text=comment))


@app.command("go", help=GO_HELP)
@remote_write(Place.PROJECT)
def go(server: Remote, id: Id, check: CheckId, comment: Comment = "") -> None:
    """Say go."""
    _told(server, _call(server, "AnswerLaunchCheck", id=id, check=check, go=True, text=comment))


@app.command("no-go", help=NO_GO_HELP)
@remote_write(Place.PROJECT)
def no_go(server: Remote, id: Id, check: CheckId, comment: Annotated[str, given("--comment", "Why.")]) -> None:
    """Say no."""
    _told(server, _call(server, "AnswerLaunchCheck", id=id, check=check, text=comment))


@app.command("calendar", help=CALENDAR_HELP)
@remote_read(Place.PROJECT)
def calendar(
    server: Remote, id: Annotated[str, typer.Argument(metavar="[ID]", help="The plan's id; else all.")] = ""
) -> None:
    """Write it to standard output."""
    from protos.flagstaff.v1 import launch_plans_pb2 as messages

    request = messages.ExportLaunchCalendarRequest(project=server.project, id=id)
    reply = _stub(server).ExportLaunchCalendar(request)
    if not server.prints(reply):
        # With the line ends that the format asks for, on every system.
        typer.get_binary_stream("stdout").write(reply.calendar)


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.launch_plans_pb2_grpc import LaunchPlanServiceStub

    return LaunchPlanServiceStub(server.channel)


def _call(server: Remote, method: str, **fields: Any) -> Any:
    from protos.flagstaff.v1 import launch_plans_pb2 as messages

    request = getattr(messages, f"{method}Request")(project=server.project, options=server.options(), **fields)
    return getattr(_stub(server), method)(request)


def _told(server: Remote, reply: Any, said: str = "") -> None:
    plan = reply.launch_plan
    server.done(reply, said or f"launch plan {plan.id} is {_state(plan)}{_following(plan)}")
    if not server.as_json:
        _print_previews(reply.previews)


def _following(plan: "launch_plans_pb2.LaunchPlan") -> str:
    return f", and goes on at {_shown(plan.next_at)}" if plan.HasField("next_at") else ""


def _print_head(plan: "launch_plans_pb2.LaunchPlan") -> None:
    note = f" ({plan.note})" if plan.note else ""
    typer.echo(f"{plan.id}: {plan.spec.name}, {_state(plan)}{note}")
    typer.echo(f"T-0 is {_shown(plan.spec.launch_at)}, told in {plan.spec.time_zone}{_following(plan)}")
    if plan.spec.owner:
        typer.echo(f"owner {plan.spec.owner}")
    answered = {each.check: each for each in plan.answers}
    for check in plan.spec.checks:
        answer = answered.get(check.id)
        said = "open" if answer is None else f"{'go' if answer.go else 'no-go'} by {answer.actor}"
        typer.echo(f"check {check.id}: {check.text}: {said}")


def _print_items(reply: Any) -> None:
    rows = []
    for each in reply.launch_plan.items:
        became = ("skipped" if each.skipped else "done") if each.HasField("done_at") else "-"
        starts = each.start_release or "-"
        rows.append([each.id, each.offset, _shown(each.at), ", ".join(each.environments), starts, became])
    typer.echo("")
    print_table(("item", "offset", "at", "environments", "starts", "became"), rows)
    _print_previews(reply.previews)
    for conflict in reply.conflicts:
        typer.echo(f"in the way: {conflict.message}")
    typer.echo("")


def _print_previews(previews: Any) -> None:
    for preview in previews:
        typer.echo(f"\n{_shown(preview.at)}: {', '.join(preview.items)}")
        for difference in preview.differences:
            for line in difference.lines:
                typer.echo(f"  {difference.environment}: {line}")


def _state(plan: "launch_plans_pb2.LaunchPlan") -> str:
    from protos.flagstaff.v1 import launch_plans_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.LaunchPlan.State.DESCRIPTOR, plan.state)


def _next(plan: "launch_plans_pb2.LaunchPlan") -> str:
    return _shown(plan.next_at) if plan.HasField("next_at") else "-"


def _shown(stamp: Any) -> str:
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M} UTC"
