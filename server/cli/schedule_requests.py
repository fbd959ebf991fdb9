"""Read what a schedule is to do, and when, from a command's options."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.files import read_file
from server.cli.instants import read_instant
from server.cli.options import given
from server.cli.remote import Remote
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.flagstaff.v1 import schedules_pb2

At = Annotated[str, given("--at", "When, with its time zone: 2026-12-01T09:00:00+01:00.")]
Rrule = Annotated[str, given("--rrule", "A recurrence by RFC 5545: FREQ=WEEKLY;BYDAY=MO;BYHOUR=9;BYMINUTE=0.")]
Cron = Annotated[str, given("--cron", "A recurrence by cron: '0 9 * * MON-FRI'.")]
Zone = Annotated[str, given("--zone", "Where a recurrence's times are told: Europe/Berlin.")]
Start = Annotated[str, given("--start", "Nothing of a recurrence happens before it; else from now on.")]
End = Annotated[str, given("--end", "Nothing of a recurrence happens after it.")]
Count = Annotated[int, given("--count", "How many times at most; 0 without a bound.", min=0)]
Grace = Annotated[int, given("--grace", "Seconds after which an instant counts as missed.", min=0)]
Remind = Annotated[int, given("--remind", "Announce each instant so many seconds before.", min=0)]
Enable = Annotated[list[str] | None, given("--enable", "Turn this flag on. Repeatable.")]
Disable = Annotated[list[str] | None, given("--disable", "Turn this flag off. Repeatable.")]
Default = Annotated[list[str] | None, given("--default", "Serve a flag's variant by default: KEY=VARIANT. Repeatable.")]
Archive = Annotated[list[str] | None, given("--archive", "Archive this flag. Repeatable.")]
WriteFile = Annotated[str, given("--write", "A JSON file with requests of other services, or - for standard input.")]
AcceptConflicts = Annotated[bool, given("--accept-conflicts", "Keep it in spite of what stands in its way now.")]
OnlyIfUnchanged = Annotated[bool, given("--only-if-unchanged", "Not when what it would change was changed by then.")]


def timing_from(
    at: str, rules: tuple[str, str], zone: str, bounds: tuple[str, str], *, count: int
) -> "schedules_pb2.ScheduleTiming":
    """When a schedule is due. Errors: BadParameter for none or several; InvalidRequest."""
    from protos.flagstaff.v1 import schedules_pb2 as messages

    rrule, cron = rules
    if len([each for each in (at, rrule, cron) if each]) != 1:
        raise typer.BadParameter("say when by one of --at, --rrule and --cron")
    timing = messages.ScheduleTiming()
    if at:
        timing.at.FromDatetime(read_instant(at, "--at"))
        return timing
    recurrence = timing.recurrence
    if rrule:
        recurrence.rrule = rrule
    else:
        recurrence.cron = cron
    recurrence.zone, recurrence.count_max = zone, count
    start, end = bounds
    if start:
        recurrence.start_at.FromDatetime(read_instant(start, "--start"))
    if end:
        recurrence.end_at.FromDatetime(read_instant(end, "--end"))
    return timing


def writes_from(
    server: Remote,
    enable: Iterable[str] | None,
    disable: Iterable[str] | None,
    default: Iterable[str] | None,
    archive: Iterable[str] | None,
    file: str,
) -> list[Any]:
    """What is to be done, each as a request of its service. Errors: BadParameter, InvalidRequest."""
    from google.protobuf.any_pb2 import Any as AnyMessage

    from protos.flagstaff.v1 import flags_pb2 as flags

    place: dict[str, Any] = {"project": server.project, "environment": server.environment}
    requests: list[Any] = []
    if enable:
        requests.append(flags.EnableFlagsRequest(**place, keys=enable))
    if disable:
        requests.append(flags.DisableFlagsRequest(**place, keys=disable))
    for each in default or ():
        key, _, variant = each.partition("=")
        if not variant:
            raise typer.BadParameter(f"{each!r} is no KEY=VARIANT")
        requests.append(flags.SetDefaultRuleRequest(**place, key=key, serve=flags.Serve(variant=variant)))
    requests += [flags.ArchiveFlagRequest(project=server.project, key=key) for key in archive or ()]
    packed = []
    for request in requests:
        message = AnyMessage()
        message.Pack(request)
        packed.append(message)
    packed += _read_writes(file) if file else []
    if not packed:
        raise typer.BadParameter("say what is to be done: --enable, --disable, --default, --archive or --write")
    return packed


def _read_writes(file: str) -> list[Any]:
    """Requests from a JSON file. Errors: InvalidRequest."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.json_format import ParseDict, ParseError

    # So that the types are known that one may name.
    from protos.flagstaff.v1 import environments_pb2, flags_pb2, history_pb2, projects_pb2, segments_pb2

    del environments_pb2, flags_pb2, history_pb2, projects_pb2, segments_pb2
    try:
        data = json.loads(read_file(file))
        return [ParseDict(each, AnyMessage()) for each in (data if isinstance(data, list) else [data])]
    except (ValueError, ParseError, TypeError) as error:
        raise InvalidRequest(
            f"{file} holds no requests with their @type ({error}); see `flagstaff schedule create --help`"
        ) from None
