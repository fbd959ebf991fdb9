"""Serve flagstaff.v1.GuardService."""

from collections.abc import Mapping
from typing import Any, Final

from protos.flagstaff.v1 import guards_pb2 as messages
from server.core.access import Action, Principal
from server.core.errors import InvalidRequest
from server.core.guards.machine import Event, Happening
from server.operations.guards.managing import Guards, GuardWritten, PolicyWritten
from server.operations.writes import Write, Written
from server.rpc.guard_messages import (
    GUARD_FIELDS,
    POLICY_FIELDS,
    evaluation_message,
    guard_message,
    policy_message,
    read_guard_message,
    read_policy_message,
)
from server.rpc.guard_watch import guard_watch_table
from server.rpc.management import Management, named, result_of
from server.rpc.masks import masked
from server.rpc.paging import paged, read_token, size_of, write_token
from server.rpc.table import Table, merge

SERVICE: Final = "flagstaff.v1.GuardService"


def guards_table(management: Management, guards: Guards) -> Table:
    """The service's handlers."""
    service = _Guards(guards)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateGuard": (messages.CreateGuardRequest, service.create_guard),
                "UpdateGuard": (messages.UpdateGuardRequest, service.update_guard),
                "DeleteGuard": (messages.DeleteGuardRequest, service.delete_guard),
                "CreateRollbackPolicy": (messages.CreateRollbackPolicyRequest, service.create_policy),
                "UpdateRollbackPolicy": (messages.UpdateRollbackPolicyRequest, service.update_policy),
                "DeleteRollbackPolicy": (messages.DeleteRollbackPolicyRequest, service.delete_policy),
                "ArmRollbackPolicy": (messages.ArmRollbackPolicyRequest, service.arm),
                "DisarmRollbackPolicy": (messages.DisarmRollbackPolicyRequest, service.disarm),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetGuard": (messages.GetGuardRequest, service.get_guard),
                "ListGuards": (messages.ListGuardsRequest, service.list_guards),
                "GetRollbackPolicy": (messages.GetRollbackPolicyRequest, service.get_policy),
                "ListRollbackPolicies": (messages.ListRollbackPoliciesRequest, service.list_policies),
                "ListEvaluations": (messages.ListEvaluationsRequest, service.evaluations),
                # They have no options of a write: what comes of them is asked of those who made the policies.
                "Signal": (messages.SignalRequest, _told(management, service.signal)),
                "Heartbeat": (messages.HeartbeatRequest, _told(management, service.heartbeat)),
            },
        ),
        guard_watch_table(management, guards.engine),
    )


def _told(management: Management, function: Any) -> Any:
    def told(request: Any, principal: Principal) -> Any:
        return function(request, Write(principal, Action.SIGNAL, management.clock()))

    return told


class _Guards:
    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def create_guard(self, request: messages.CreateGuardRequest, write: Write) -> messages.GuardResponse:
        named(request, "project")
        guard = read_guard_message(request.guard)
        return _guard_response(self._guards.create_guard(request.project, guard, write))

    def update_guard(self, request: messages.UpdateGuardRequest, write: Write) -> messages.GuardResponse:
        named(request, "project")
        chosen = _chosen(request, request.guard.key, GUARD_FIELDS)
        given = read_guard_message(request.guard)
        values = {name: getattr(given, name) for name in sorted(chosen)}
        return _guard_response(self._guards.update_guard(request.project, request.guard.key, values, write))

    def delete_guard(self, request: messages.DeleteGuardRequest, write: Write) -> messages.DeleteGuardResponse:
        named(request, "project", "key")
        written = self._guards.delete_guard(request.project, request.key, write)
        return messages.DeleteGuardResponse(result=result_of(written))

    def get_guard(self, request: messages.GetGuardRequest, _principal: Principal) -> messages.GetGuardResponse:
        named(request, "project", "key")
        return messages.GetGuardResponse(guard=guard_message(self._guards.guard(request.project, request.key)))

    def list_guards(self, request: messages.ListGuardsRequest, _principal: Principal) -> messages.ListGuardsResponse:
        named(request, "project")
        page = paged(self._guards.guards(request.project), request, key=lambda each: each.guard.key)
        return messages.ListGuardsResponse(
            guards=[guard_message(each) for each in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )

    def create_policy(
        self, request: messages.CreateRollbackPolicyRequest, write: Write
    ) -> messages.RollbackPolicyResponse:
        named(request, "project")
        policy = read_policy_message(request.policy)
        return _policy_response(self._guards.create_policy(request.project, policy, write))

    def update_policy(
        self, request: messages.UpdateRollbackPolicyRequest, write: Write
    ) -> messages.RollbackPolicyResponse:
        named(request, "project")
        chosen = _chosen(request, request.policy.key, POLICY_FIELDS)
        given = read_policy_message(request.policy, partial=chosen)
        values = {name: getattr(given, name) for name in sorted(chosen)}
        return _policy_response(self._guards.update_policy(request.project, request.policy.key, values, write))

    def delete_policy(
        self, request: messages.DeleteRollbackPolicyRequest, write: Write
    ) -> messages.DeleteRollbackPolicyResponse:
        named(request, "project", "key")
        written = self._guards.delete_policy(request.project, request.key, write)
        return messages.DeleteRollbackPolicyResponse(result=result_of(written))

    def arm(self, request: messages.ArmRollbackPolicyRequest, write: Write) -> messages.RollbackPolicyResponse:
        named(request, "project", "key")
        return _policy_response(self._guards.set_armed(request.project, request.key, True, write))

    def disarm(self, request: messages.DisarmRollbackPolicyRequest, write: Write) -> messages.RollbackPolicyResponse:
        named(request, "project", "key")
        return _policy_response(self._guards.set_armed(request.project, request.key, False, write))

    def get_policy(
        self, request: messages.GetRollbackPolicyRequest, _principal: Principal
    ) -> messages.GetRollbackPolicyResponse:
        named(request, "project", "key")
        stored = self._guards.policy(request.project, request.key)
        return messages.GetRollbackPolicyResponse(policy=policy_message(stored))

    def list_policies(
        self, request: messages.ListRollbackPoliciesRequest, _principal: Principal
    ) -> messages.ListRollbackPoliciesResponse:
        named(request, "project")
        page = paged(self._guards.policies(request.project), request, key=lambda each: each.policy.key)
        return messages.ListRollbackPoliciesResponse(
            policies=[policy_message(each) for each in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )

    def evaluations(
        self, request: messages.ListEvaluationsRequest, _principal: Principal
    ) -> messages.ListEvaluationsResponse:
        named(request, "project")
        size = size_of(request)
        found = self._guards.evaluations(
            request.project,
            guard=request.guard,
            policy=request.policy,
            before=_before(request.page_token),
            limit=size + 1,
        )
        shown = found[:size]
        return messages.ListEvaluationsResponse(
            evaluations=[evaluation_message(each) for each in shown],
            next_page_token=write_token(str(shown[-1].number)) if len(found) > size else "",
        )

    def signal(self, request: messages.SignalRequest, write: Write) -> messages.SignalResponse:
        named(request, "project", "environment", "name")
        happening = Happening.RESOLVED if request.resolved else Happening.SIGNALLED
        text = request.text or f"signal {request.name!r}"
        event = Event(happening, write.now, request.name, text=text)
        told = self._guards.signal(request.project, request.environment, event, write)
        return messages.SignalResponse(
            reactions=[
                messages.PolicyReaction(
                    policy=each.policy, outcome=each.outcome, text=each.text, revision=each.revision
                )
                for each in told
            ]
        )

    def heartbeat(self, request: messages.HeartbeatRequest, write: Write) -> messages.HeartbeatResponse:
        named(request, "project", "environment", "name")
        event = Event(Happening.BEAT, write.now, request.name)
        told = self._guards.signal(request.project, request.environment, event, write)
        return messages.HeartbeatResponse(listening=len(told))


def _chosen(request: Any, key: str, fields: Mapping[str, str]) -> set[str]:
    """The values' fields that a mask of messages' fields names."""
    what = request.DESCRIPTOR.name
    if not key:
        raise InvalidRequest(f"{what} needs the key of what is to be changed")
    chosen = masked(request.update_mask, fields.keys())
    if not chosen:
        raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(fields)}")
    return {fields[name] for name in chosen}


def _before(token: str) -> int | None:
    text = read_token(token)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest("page_token is not one of this list; send the next_page_token of the page before")
    return int(text)


def _guard_response(written: GuardWritten) -> messages.GuardResponse:
    return messages.GuardResponse(guard=guard_message(written.stored), result=result_of(Written(written.outcome)))


def _policy_response(written: PolicyWritten) -> messages.RollbackPolicyResponse:
    return messages.RollbackPolicyResponse(
        policy=policy_message(written.stored), result=result_of(Written(written.outcome))
    )
