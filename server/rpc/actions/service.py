"""Serve flagstaff.v1.ActionService: what automation tools have done here."""

from typing import Any, Final

from protos.flagstaff.v1 import actions_pb2 as messages
from server.core.access import Principal
from server.core.actions.catalogue import CATALOGUE
from server.core.actions.schemas import input_schema
from server.core.actions.values import Asked, Causation, Done, Status
from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.rpc.actions.running import Actions
from server.rpc.call import Call
from server.rpc.management import parse
from server.rpc.table import Table, merge, unary_async
from server.rpc.values import json_of

SERVICE: Final = "flagstaff.v1.ActionService"

_STATUSES: Final = {each: messages.ActionStatus.Value(f"ACTION_STATUS_{each.name}") for each in Status}


def actions_table(actions: Actions) -> Table:
    """The service's handlers."""
    service = _Service(actions)
    reads = actions.management.reads(SERVICE, {"ListActions": (messages.ListActionsRequest, service.list)})
    return merge(reads, {f"/{SERVICE}/RunAction": unary_async(service.run)})


class _Service:
    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def list(self, _request: Any, _principal: Principal) -> messages.ListActionsResponse:
        reply = messages.ListActionsResponse()
        for type_ in CATALOGUE.values():
            told = reply.actions.add(
                name=type_.name,
                title=type_.title,
                description=type_.says,
                permission=type_.permission.value,
                writes=type_.writes,
            )
            told.schema.update(input_schema(type_))
        return reply

    async def run(self, raw: bytes, call: Call) -> bytes:
        request = parse(messages.RunActionRequest, raw)
        done = await self._actions.run(asked_of(request), call.principal)
        return response(done).SerializeToString()


def asked_of(request: messages.RunActionRequest) -> Asked:
    """What a request asks for. Errors: InvalidRequest; InvalidDefinition where two places are named."""
    if request.options.bypass_approval:
        raise InvalidRequest("actions wait for approvals like everybody; ask the service itself in an emergency")
    inputs = json_of(request.inputs)
    for name in ("project", "environment"):
        given = getattr(request, name)
        if given and inputs.setdefault(name, given) != given:
            raise InvalidDefinition([Problem(f"/{name}", f"is {inputs[name]!r} here and {given!r} beside the inputs")])
    return Asked(
        request.name,
        inputs,
        reason=request.options.reason,
        cause=request.options.cause,
        dry_run=request.options.dry_run,
        expected_version=request.options.expected_version,
        idempotency_key=request.options.request_id,
        causation=Causation(request.causation_id, request.hops),
    )


def response(done: Done) -> messages.RunActionResponse:
    """What became of it."""
    reply = messages.RunActionResponse(
        action_id=done.action_id,
        status=_STATUSES[done.status],
        version=done.version or 0,
        revision=done.revision or 0,
        event_ids=done.event_ids,
        changes=done.changes,
        warnings=done.warnings,
        change_request=done.change_request,
        subject_id=done.subject_id,
    )
    for item in done.items:
        reply.items.add().update(item)
    return reply
