"""The commands `flagstaff schedule ...`: changes that are made at a time."""

from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from server.cli.options import given, group
from server.cli.output import print_table
from server.cli.remote import ABOUT_SERVERS, Place, Remote, remote_read, remote_write
from server.cli.schedule_printing import lag_of, print_conflicts, print_detail, row_of, shown, state_of
from server.cli.schedule_requests import (
    AcceptConflicts,
    Archive,
    At,
    Count,
    Cron,
    Default,
    Disable,
    Enable,
    End,
    Grace,
    OnlyIfUnchanged,
    Remind,
    Rrule,
    Start,
    WriteFile,
    Zone,
    timing_from,
    writes_from,
)

HELP: Final = f"""Make changes at a time, once or again and again.

A schedule is executed within moments of its instant while a server runs, and exactly once however many do.
{ABOUT_SERVERS}

\b
  flagstaff schedule create --at 2026-12-01T09:00:00+01:00 --enable new-checkout --reason "Winter sale"
  flagstaff schedule create --cron "0 18 * * FRI" --zone Europe/Berlin --disable risky
  flagstaff schedule list --state pending
  flagstaff schedule preview sc_0123456789
  flagstaff schedule move sc_0123456789 --at 2026-12-02T09:00:00+01:00
  flagstaff schedule cancel sc_0123456789
"""

CREATE_HELP: Final = """Have changes made as one commit at an instant, or again and again.

What is to be done is said by --enable, --disable, --default and --archive, or by --write with a JSON file: a request
of another service, with its type, or a list of them.

\b
  flagstaff schedule create --at 2026-12-01T09:00:00+01:00 --enable new-checkout --default banner=winter
  flagstaff schedule create --rrule "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9;BYMINUTE=0" --zone Europe/Berlin --enable night
  flagstaff schedule create --at 2026-12-01T09:00:00Z --write rule.json --dry-run

\b
  {"@type": "type.googleapis.com/flagstaff.v1.SetDefaultRuleRequest", "project": "default",
   "environment": "production", "key": "banner", "serve": {"variant": "winter"}}
"""

LIST_HELP: Final = """List schedules, the newest first.

\b
  flagstaff schedule list --state pending --state conflicted
  flagstaff schedule list --environment production --flag new-checkout
"""

SHOW_HELP: Final = """Show what a schedule changes and when, what is in its way, and all that happened to it.

\b
  flagstaff schedule show sc_0123456789
"""

PREVIEW_HELP: Final = """Show what a schedule would make of what is there now, and what stands in its way.

\b
  flagstaff schedule preview sc_0123456789
  flagstaff schedule preview sc_0123456789 --json       each thing, before and after
"""

MOVE_HELP: Final = """Give a schedule another time, also one that was in conflict or missed. Drops approvals.

\b
  flagstaff schedule move sc_0123456789 --at 2026-12-02T09:00:00+01:00
"""

UPDATE_HELP: Final = """Have a schedule do something else at its time. Drops approvals.

\b
  flagstaff schedule update sc_0123456789 --disable new-checkout
"""

CANCEL_HELP: Final = """Have a schedule not happen: for who may make its change, and for who may approve it.

\b
  flagstaff schedule cancel sc_0123456789 --reason "The launch is off"
"""

RUN_HELP: Final = """Make a schedule's change now, as yourself. A recurrence goes on with its next instant.

\b
  flagstaff schedule run sc_0123456789
"""

APPROVE_HELP: Final = """Agree to what a schedule does, and when. One's own approval does not count.

\b
  flagstaff schedule approve sc_0123456789 --comment "Looks right"
"""

EXECUTIONS_HELP: Final = """List what became of a schedule's instants, the last first.

\b
  flagstaff schedule executions sc_0123456789
"""

app = group(HELP)

Id = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]


class StateName(StrEnum):
    """The states, as an option's choices."""

    PENDING = "pending"
    DONE = "done"
    CONFLICTED = "conflicted"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class MissedName(StrEnum):
    """What becomes of missed instants, as an option's choices."""

    RUN = "run"
    SKIP = "skip"
    FAIL = "fail"


Missed = Annotated[MissedName, given("--missed", "An instant that no server was there for: run it once, skip, fail.")]


@app.command("create", help=CREATE_HELP)
@remote_write(Place.ENVIRONMENT, versioned=False)
def create(
    server: Remote,
    *,
    at: At = "",
    rrule: Rrule = "",
    cron: Cron = "",
    zone: Zone = "UTC",
    start: Start = "",
    end: End = "",
    count: Count = 0,
    missed: Missed = MissedName.RUN,
    grace: Grace = 60,
    remind: Remind = 0,
    enable: Enable = None,
    disable: Disable = None,
    default: Default = None,
    archive: Archive = None,
    write: WriteFile = "",
    only_if_unchanged: OnlyIfUnchanged = False,
    accept_conflicts: AcceptConflicts = False,
) -> None:
    """Make one."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    timing = timing_from(at, (rrule, cron), zone, (start, end), count=count)
    timing.missed = messages.ScheduleTiming.Missed.Value(f"MISSED_{missed.name}")
    timing.grace_s, timing.remind_s = grace, remind
    reply = _stub(server).CreateSchedule(
        messages.CreateScheduleRequest(
            project=server.project,
            writes=writes_from(server, enable, disable, default, archive, write),
            timing=timing,
            only_if_unchanged=only_if_unchanged,
            accept_conflicts=accept_conflicts,
            options=server.options(),
        )
    )
    _done(server, reply)


@app.command("list", help=LIST_HELP)
@remote_read(Place.PROJECT)
def list_schedules(
    server: Remote,
    *,
    state: Annotated[list[StateName] | None, given("--state", "In this state. Repeatable.")] = None,
    environment: Annotated[str, given("--environment", "That change something there.")] = "",
    flag: Annotated[str, given("--flag", "That change this flag.")] = "",
    segment: Annotated[str, given("--segment", "That change this segment.")] = "",
    limit: Annotated[int, given("--limit", "How many at most.", min=1)] = 100,
) -> None:
    """Read as many pages as it takes and list them."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    if flag and segment:
        raise typer.BadParameter("name a --flag or a --segment")
    whole = messages.ListSchedulesResponse()
    request = messages.ListSchedulesRequest(
        project=server.project,
        environment=environment,
        states=[messages.Schedule.State.Value(f"STATE_{each.name}") for each in state or ()],
        kind="flag" if flag else "segment" if segment else "",
        key=flag or segment,
    )
    while True:
        request.page_size = min(100, limit - len(whole.schedules))
        page = _stub(server).ListSchedules(request)
        whole.schedules.extend(page.schedules)
        whole.total_size = page.total_size
        request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.schedules) >= limit:
            break
    if server.prints(whole):
        return
    columns = ("id", "state", "due", "title", "environments", "runs")
    print_table(columns, [row_of(each) for each in whole.schedules])
    typer.echo(f"\n{len(whole.schedules)} schedule{'s' * (len(whole.schedules) != 1)}")


@app.command("show", help=SHOW_HELP)
@remote_read(Place.PROJECT)
def show(server: Remote, id: Id) -> None:
    """Read one and print it."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    reply = _stub(server).GetSchedule(messages.GetScheduleRequest(project=server.project, id=id))
    if not server.prints(reply):
        print_detail(reply)


@app.command("preview", help=PREVIEW_HELP)
@remote_read(Place.PROJECT)
def preview(server: Remote, id: Id) -> None:
    """Print what would differ."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    reply = _stub(server).PreviewSchedule(messages.PreviewScheduleRequest(project=server.project, id=id))
    if server.prints(reply):
        return
    for thing in reply.things:
        for line in thing.changes:
            typer.echo(f"{thing.environment}: {line}")
    if not reply.things:
        typer.echo("nothing would change now")
    print_conflicts(reply.conflicts)


@app.command("move", help=MOVE_HELP)
@remote_write(Place.PROJECT)
def move(
    server: Remote,
    id: Id,
    *,
    at: At = "",
    rrule: Rrule = "",
    cron: Cron = "",
    zone: Zone = "UTC",
    start: Start = "",
    end: End = "",
    count: Count = 0,
    accept_conflicts: AcceptConflicts = False,
) -> None:
    """Give it another time; how missed instants are taken stays."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    stub = _stub(server)
    now = stub.GetSchedule(messages.GetScheduleRequest(project=server.project, id=id)).schedule.timing
    timing = timing_from(at, (rrule, cron), zone, (start, end), count=count)
    timing.missed, timing.grace_s, timing.remind_s = now.missed, now.grace_s, now.remind_s
    request = messages.RescheduleRequest(
        project=server.project, id=id, timing=timing, accept_conflicts=accept_conflicts, options=server.options()
    )
    _done(server, stub.Reschedule(request))


@app.command("update", help=UPDATE_HELP)
@remote_write(Place.ENVIRONMENT)
def update(
    server: Remote,
    id: Id,
    *,
    enable: Enable = None,
    disable: Disable = None,
    default: Default = None,
    archive: Archive = None,
    write: WriteFile = "",
    only_if_unchanged: OnlyIfUnchanged = False,
    accept_conflicts: AcceptConflicts = False,
) -> None:
    """Have it do something else."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    request = messages.UpdateScheduleRequest(
        project=server.project,
        id=id,
        writes=writes_from(server, enable, disable, default, archive, write),
        only_if_unchanged=only_if_unchanged,
        accept_conflicts=accept_conflicts,
        options=server.options(),
    )
    _done(server, _stub(server).UpdateSchedule(request))


@app.command("cancel", help=CANCEL_HELP)
@remote_write(Place.PROJECT)
def cancel(server: Remote, id: Id) -> None:
    """Have it not happen."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    request = messages.CancelScheduleRequest(project=server.project, id=id, options=server.options())
    _done(server, _stub(server).CancelSchedule(request))


@app.command("run", help=RUN_HELP)
@remote_write(Place.PROJECT)
def run(server: Remote, id: Id) -> None:
    """Make its change."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    request = messages.RunScheduleRequest(project=server.project, id=id, options=server.options())
    _done(server, _stub(server).RunSchedule(request))


@app.command("approve", help=APPROVE_HELP)
@remote_write(Place.PROJECT)
def approve(
    server: Remote, id: Id, *, comment: Annotated[str, given("--comment", "What there is to say.")] = ""
) -> None:
    """Say yes."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    request = messages.ApproveScheduleRequest(project=server.project, id=id, text=comment, options=server.options())
    _done(server, _stub(server).ApproveSchedule(request))


@app.command("executions", help=EXECUTIONS_HELP)
@remote_read(Place.PROJECT)
def executions(
    server: Remote, id: Id, *, limit: Annotated[int, given("--limit", "How many at most.", min=1)] = 100
) -> None:
    """List the last ones."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    whole = messages.ListScheduleExecutionsResponse()
    request = messages.ListScheduleExecutionsRequest(project=server.project, id=id)
    while True:
        request.page_size = min(100, limit - len(whole.executions))
        page = _stub(server).ListScheduleExecutions(request)
        whole.executions.extend(page.executions)
        request.page_token = page.next_page_token
        if not page.next_page_token or len(whole.executions) >= limit:
            break
    if not server.prints(whole):
        rows = [[shown(each.instant), each.happening, lag_of(each), each.text or "-"] for each in whole.executions]
        print_table(("instant", "became", "late", "said"), rows)


def _stub(server: Remote) -> Any:
    from protos.flagstaff.v1.schedules_pb2_grpc import ScheduleServiceStub

    return ScheduleServiceStub(server.channel)


def _done(server: Remote, reply: Any) -> None:
    schedule = reply.schedule
    due = f", due at {shown(schedule.due_at)}" if schedule.HasField("due_at") else ""
    server.done(reply, f"schedule {schedule.id} is {state_of(schedule)}{due}")
