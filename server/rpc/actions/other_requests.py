"""Say which requests the actions on releases, schedules, change requests and signals come to."""

from datetime import datetime
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage

from protos.flagstaff.v1 import change_requests_pb2 as change_requests
from protos.flagstaff.v1 import guards_pb2 as guards
from protos.flagstaff.v1 import releases_pb2 as releases
from protos.flagstaff.v1 import schedules_pb2 as schedules
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound, Problem
from server.rpc.actions.doing import Doing, Request
from server.rpc.timestamps import timestamp

_UNDER_WAY: Final = (
    releases.RELEASE_STATE_CREATED,
    releases.RELEASE_STATE_AWAITING_START,
    releases.RELEASE_STATE_RUNNING,
    releases.RELEASE_STATE_AWAITING_APPROVAL,
    releases.RELEASE_STATE_HELD,
    releases.RELEASE_STATE_PAUSED,
)


async def release_of(doing: Doing) -> str:
    """The id that was given, or that of the release that is under way on a flag.

    Errors: NotFound, InvalidDefinition.
    """
    given = doing.given
    if given.get("release_id"):
        return str(given["release_id"])
    if not given.get("flag_key"):
        raise InvalidDefinition([Problem("/release_id", "name the release, or a flag that it is under way on")])
    asked = releases.ListReleasesRequest(
        project=doing.project, environment=doing.environment, flag_key=given["flag_key"], states=_UNDER_WAY
    )
    found = (await doing.ask(Request("ReleaseService/ListReleases", asked))).releases
    if not found:
        raise NotFound(f"no release is under way on flag {given['flag_key']!r}{_there(doing)}")
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise InvalidDefinition([Problem("/release_id", f"several releases are under way; say which: {ids}")])
    return str(found[0].id)


def _there(doing: Doing) -> str:
    return f" in {doing.project}/{doing.environment}" if doing.environment else f" in project {doing.project!r}"


async def start_release(doing: Doing) -> Request:
    """Its first step."""
    return await _moved(doing, "StartRelease", releases.StartReleaseRequest)


async def pause_release(doing: Doing) -> Request:
    """Its time stands still."""
    return await _moved(doing, "PauseRelease", releases.PauseReleaseRequest)


async def resume_release(doing: Doing) -> Request:
    """Its time goes on."""
    return await _moved(doing, "ResumeRelease", releases.ResumeReleaseRequest)


async def advance_release(doing: Doing) -> Request:
    """Its next step, or another one."""
    if "to_step" in doing.given:
        step = int(doing.given["to_step"])
        return await _moved(doing, "JumpRelease", releases.JumpReleaseRequest, step=step)
    return await _moved(doing, "AdvanceRelease", releases.AdvanceReleaseRequest)


async def roll_back_release(doing: Doing) -> Request:
    """Back."""
    more: dict[str, Any] = {}
    to = doing.given.get("to", "step" if "to_step" in doing.given else "")
    if to:
        kind = releases.RollBackTarget.To.Value(f"TO_{to.upper()}")
        more["target"] = releases.RollBackTarget(to=kind, step=int(doing.given.get("to_step", 0)))
    return await _moved(doing, "RollBackRelease", releases.RollBackReleaseRequest, **more)


async def answer_release(doing: Doing) -> Request:
    """What somebody outside says, by its name."""
    given = doing.given
    return await _moved(doing, "AnswerRelease", releases.AnswerReleaseRequest, name=given["name"], go=bool(given["go"]))


async def _moved(doing: Doing, method: str, message: Any, **more: Any) -> Request:
    request = message(
        project=doing.project,
        id=await release_of(doing),
        text=doing.wanted.reason,
        options=doing.options(),
        **more,
    )
    return Request(f"ReleaseService/{method}", request)


async def cancel_schedule(doing: Doing) -> Request:
    """Never."""
    request = schedules.CancelScheduleRequest(
        project=doing.project, id=doing.given["schedule_id"], options=doing.options()
    )
    return Request("ScheduleService/CancelSchedule", request)


def scheduled(doing: Doing, write: Request) -> Request:
    """A schedule that makes a write. Errors: InvalidDefinition where it is not said when, or twice."""
    given = doing.given
    rules = [name for name in ("at", "rrule", "cron") if given.get(name)]
    if len(rules) != 1:
        raise InvalidDefinition([Problem("/at", "say when by one of: at, rrule, cron")])
    if rules != ["at"] and not given.get("time_zone"):
        raise InvalidDefinition([Problem("/time_zone", "a recurrence needs one, such as Europe/Berlin")])
    timing = schedules.ScheduleTiming()
    if rules == ["at"]:
        timing.at.CopyFrom(timestamp(datetime.fromisoformat(given["at"])))
    else:
        recurrence = schedules.Recurrence(zone=given["time_zone"], **{rules[0]: given[rules[0]]})
        timing.recurrence.CopyFrom(recurrence)
    packed = AnyMessage()
    packed.Pack(write.message)
    request = schedules.CreateScheduleRequest(
        project=doing.project, writes=[packed], timing=timing, options=doing.options(expected_version=0)
    )
    return Request("ScheduleService/CreateSchedule", request)


async def decide_change_request(doing: Doing) -> Request:
    """A word to it."""
    given = doing.given
    here = {"project": doing.project, "id": given["change_request_id"], "options": doing.options()}
    text = given.get("comment", doing.wanted.reason)
    match given["decision"]:
        case "approve":
            approved = change_requests.ApproveChangeRequestRequest(text=text, **here)
            return Request("ChangeRequestService/ApproveChangeRequest", approved)
        case "reject":
            rejected = change_requests.RejectChangeRequestRequest(text=text, **here)
            return Request("ChangeRequestService/RejectChangeRequest", rejected)
    return Request("ChangeRequestService/ApplyChangeRequest", change_requests.ApplyChangeRequestRequest(**here))


async def send_signal(doing: Doing) -> Request:
    """To whoever listens. Errors: InvalidRequest for a dry run."""
    given = doing.given
    if doing.wanted.dry_run:
        raise InvalidRequest("a signal cannot be tried: policies in shadow mode say what they would do about one")
    request = guards.SignalRequest(
        project=doing.project,
        environment=doing.environment,
        name=given["name"],
        text=given.get("text", doing.wanted.reason),
        resolved=bool(given.get("resolved")),
    )
    return Request("GuardService/Signal", request)
