"""Have an action done: check what was given, guard it, ask the service that it comes to, tell what became of it.

There is no other way to change anything here than those services' own: who may, freezes, approvals, versions and the
audit trail are asked there, as for any other caller.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import releases_pb2 as releases
from server.core.access import Action, Principal, Scope
from server.core.actions.catalogue import CATALOGUE
from server.core.actions.inputs import read_inputs
from server.core.actions.values import ActionType, Asked, Done, Status
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound, Problem
from server.core.json import Json
from server.operations.actions import Ledger, action_id_of
from server.operations.writes import require, require_within
from server.rpc.actions import flag_requests, other_requests, searching, stale_requests
from server.rpc.actions.doing import Doing, Request
from server.rpc.management import Management
from server.rpc.table import Handler, Table
from server.store.causing import Causing, caused_by

Build: TypeAlias = Callable[[Doing], Awaitable[Request]]
Search: TypeAlias = Callable[[Doing], Awaitable[list[dict[str, Json]]]]

WRITES: Final[Mapping[str, Build]] = {
    "set_flag_state": flag_requests.set_flag_state,
    "kill_flag": flag_requests.kill_flag,
    "set_rollout_share": flag_requests.set_rollout_share,
    "create_flag": flag_requests.create_flag,
    "update_flag": flag_requests.update_flag,
    "archive_flag": flag_requests.archive_flag,
    "restore_flag": flag_requests.restore_flag,
    "update_segment": flag_requests.update_segment,
    "snooze_stale": stale_requests.snooze_stale,
    "mark_stale": stale_requests.mark_stale,
    "clear_stale": stale_requests.clear_stale,
    "mark_permanent": stale_requests.mark_permanent,
    "start_release": other_requests.start_release,
    "pause_release": other_requests.pause_release,
    "resume_release": other_requests.resume_release,
    "advance_release": other_requests.advance_release,
    "roll_back_release": other_requests.roll_back_release,
    "answer_release": other_requests.answer_release,
    "cancel_schedule": other_requests.cancel_schedule,
    "decide_change_request": other_requests.decide_change_request,
    "send_signal": other_requests.send_signal,
}
"""Name -> the request that it comes to. Beside them stands schedule_change, which is made of another action."""

SEARCHES: Final[Mapping[str, Search]] = {
    "find_flags": searching.find_flags,
    "get_release": searching.get_release,
    "evaluate_flag": searching.evaluate_flag,
    "list_stale_flags": stale_requests.list_stale_flags,
}

SCHEDULE: Final = "schedule_change"

_STATUSES: Final = {
    common.OUTCOME_APPLIED: Status.APPLIED,
    common.OUTCOME_UNCHANGED: Status.NOOP,
    common.OUTCOME_WOULD_APPLY: Status.WOULD_APPLY,
    common.OUTCOME_REQUESTED: Status.PENDING_APPROVAL,
}


@dataclass(frozen=True, slots=True)
class Actions:
    """Has actions done, by the services of one server."""

    management: Management
    ledger: Ledger
    table: dict[str, Handler] = field(default_factory=dict)
    """Handlers of the other services, as no door guards them; filled when there are any."""

    def serve(self, table: Table) -> None:
        """Know these services."""
        self.table.update(table)

    async def run(self, asked: Asked, principal: Principal) -> Done:
        """Have an action done.

        Errors: NotFound for one that there is not; InvalidDefinition with every input that is wrong; PermissionDenied;
        Conflict for an idempotency key of something else; Refused for a loop; Limited; whatever its service raises.
        """
        type_ = type_of(asked.name)
        given = read_inputs(type_, asked.inputs)
        _require(principal, type_.permission, given)
        run = self.management.run
        now = self.management.clock()
        again = await run(lambda: self.ledger.answered(principal.actor, asked, now))
        if again is not None:
            return again
        doing = Doing(self.table, principal, given, _options(asked, principal))
        action_id = action_id_of(principal.actor, asked)
        if not type_.writes:
            return Done(action_id, asked.name, Status.FOUND, items=tuple(await SEARCHES[asked.name](doing)))
        hops = await run(lambda: self.ledger.check_hops(doing.project, asked.causation))
        if not asked.dry_run:
            await run(lambda: self.ledger.take_turn(type_, given))
        with caused_by(Causing(asked.causation.id or action_id, hops + 1, action_id)):
            request = await self._request(asked.name, doing)
            reply = await doing.ask(request)
        events = () if asked.dry_run else await run(lambda: self.ledger.events_of(doing.project, action_id))
        done = told(Done(action_id, asked.name, Status.APPLIED, event_ids=events), reply, doing)
        if not asked.dry_run:
            await run(lambda: self.ledger.keep(principal.actor, asked, done, now))
        return done

    async def _request(self, name: str, doing: Doing) -> Request:
        if name != SCHEDULE:
            return await WRITES[name](doing)
        given = doing.given
        inner = type_of(given["action"])
        where = {name: given[name] for name in ("project", "environment") if name in given}
        if inner.in_environment is False:
            where.pop("environment", None)
        try:
            inputs = read_inputs(inner, {**given["inputs"], **where})
        except InvalidDefinition as error:
            raise InvalidDefinition([Problem(f"/inputs{each.path}", each.message) for each in error.problems]) from None
        # Of the write itself: what says how it is asked for belongs to the schedule.
        write = await WRITES[inner.name](Doing(doing.table, doing.principal, inputs, common.WriteOptions()))
        message: Any = write.message
        message.options.Clear()
        return other_requests.scheduled(doing, write)


def type_of(name: str) -> ActionType:
    """An action by its name. Errors: InvalidRequest for none, NotFound for one that there is not."""
    if not name:
        raise InvalidRequest("which action is to be done is not said; ListActions and GET /v1/actions list them")
    type_ = CATALOGUE.get(name)
    if type_ is None:
        raise NotFound(f"there is no action {name[:80]!r}; there are: {', '.join(CATALOGUE)}")
    return type_


def _require(principal: Principal, action: Action, given: Mapping[str, Json]) -> None:
    """Refuse early whom the service would refuse; where exactly, it asks itself."""
    project, environment = str(given["project"]), str(given.get("environment", ""))
    if environment:
        require(principal, action, Scope(project, environment))
    else:
        require_within(principal, action, project)


def _options(asked: Asked, principal: Principal) -> common.WriteOptions:
    # Keys of different callers do not meet, and a key is no longer than a request id may be.
    request_id = action_id_of(principal.actor, asked) if asked.idempotency_key else ""
    return common.WriteOptions(
        request_id=request_id,
        dry_run=asked.dry_run,
        reason=asked.reason,
        cause=asked.cause,
        expected_version=asked.expected_version,
    )


def told(done: Done, reply: Message, doing: Doing) -> Done:
    """What became of it, as a service's reply tells."""
    fields = reply.DESCRIPTOR.fields_by_name
    answer: Any = reply
    result = answer.result if "result" in fields else common.WriteResult(outcome=common.OUTCOME_APPLIED)
    status = _STATUSES[result.outcome]
    if "reactions" in fields:
        # Each policy that listens; one that is cooling down, say, does nothing about it.
        status = Status.APPLIED if any(each.outcome for each in answer.reactions) else Status.NOOP
        result.changes.extend(
            f"policy {each.policy}: {each.outcome or 'nothing'} {each.text}" for each in answer.reactions
        )
    if "schedule" in fields and "conflicts" in fields and status is Status.APPLIED:
        status = Status.SCHEDULED
    if "release" in fields and answer.release.state == releases.RELEASE_STATE_AWAITING_START:
        status = Status.PENDING_APPROVAL if status is Status.APPLIED else status
    revision = result.revisions.get(doing.environment) if doing.environment else None
    return Done(
        done.action_id,
        done.action,
        status,
        version=_version(answer, fields, doing) or revision,
        revision=revision,
        event_ids=done.event_ids,
        changes=tuple(result.changes),
        warnings=tuple(result.warnings),
        change_request=result.change_request,
        subject_id=next((getattr(answer, name).id for name in ("release", "schedule") if name in fields), ""),
    )


def _version(answer: Any, fields: Mapping[str, Any], doing: Doing) -> int | None:
    """Of what was changed: in an environment what stands there, else what environments share."""
    if "configs" in fields and doing.environment:
        found = [each.version for each in answer.configs if each.environment == doing.environment]
        return found[0] if found else None
    for name in ("flag", "release", "segment"):
        if name in fields and answer.HasField(name):
            # What is said of a stale flag is no version of it.
            return int(getattr(getattr(answer, name), "version", 0)) or None
    if "schedule" in fields and answer.HasField("schedule"):
        return int(answer.schedule.content_version)
    return None
