"""Print schedules for people."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from server.core.counting import counted

if TYPE_CHECKING:
    from protos.flagstaff.v1 import schedules_pb2


def state_of(schedule: "schedules_pb2.Schedule") -> str:
    """A schedule's state, in a word."""
    from protos.flagstaff.v1 import schedules_pb2 as messages
    from server.cli.documents import enum_name

    return enum_name(messages.Schedule.State.DESCRIPTOR, schedule.state)


def row_of(schedule: "schedules_pb2.Schedule") -> list[str]:
    """A schedule as a row of a list."""
    return [
        schedule.id,
        state_of(schedule),
        shown(schedule.due_at) if schedule.HasField("due_at") else "-",
        schedule.title or "-",
        ", ".join(each.environment for each in schedule.differences) or "-",
        str(schedule.run_count),
    ]


def shown(stamp: Any) -> str:
    """An instant as people read it."""
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"


def lag_of(step: "schedules_pb2.ScheduleStep") -> str:
    """How late an instant was settled."""
    lag = step.at.ToDatetime() - step.instant.ToDatetime()
    return f"{max(0.0, lag.total_seconds()):.3f} s"


def print_conflicts(conflicts: Iterable["schedules_pb2.ScheduleConflict"]) -> None:
    """Print what stands in the way."""
    for each in conflicts:
        where = f" in {each.environment}" if each.environment else ""
        typer.echo(f"{'in the way' if each.blocking else 'note'}{where}: {each.message}")


def print_detail(reply: "schedules_pb2.GetScheduleResponse") -> None:
    """Print all that there is to know of a schedule."""
    schedule = reply.schedule
    typer.echo(f"{schedule.id}: {schedule.title or '(no reason given)'}")
    note = f" ({schedule.note})" if schedule.note else ""
    typer.echo(f"{state_of(schedule)}{note}, made by {', '.join(schedule.authors)}, {shown(schedule.created_at)}")
    recurrence = schedule.timing.recurrence
    if schedule.timing.WhichOneof("when") == "recurrence":
        typer.echo(f"again and again: {recurrence.rrule or recurrence.cron} in {recurrence.zone}")
    for instant in reply.instants:
        typer.echo(f"due at {shown(instant)}")
    for difference in schedule.differences:
        typer.echo(f"\nin {difference.environment}, as things were when it was made:")
        for line in difference.lines or ["nothing would have differed"]:
            typer.echo(f"  {line}")
    typer.echo("")
    print_conflicts(schedule.conflicts)
    for each in reply.approvals:
        counting = f": {', '.join(each.approvers)}" if each.approvers else ""
        needed = counted(each.needed, "approval")
        typer.echo(f"{each.environment} asks for {needed} and has {len(each.approvers)}{counting}")
    for step in reply.steps:
        text = f": {step.text}" if step.text else ""
        typer.echo(f"{shown(step.at)}  {step.actor} {step.happening}{text}")
