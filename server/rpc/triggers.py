"""Serve flagstaff.v1.TriggerService: addresses that have one action done."""

from collections.abc import Callable
from typing import Any, Final

from protos.flagstaff.v1 import triggers_pb2 as messages
from server.core.access import Principal
from server.core.actions.triggers import SIGNALLED, Effect, Trigger
from server.core.errors import InvalidDefinition, Problem
from server.operations.triggers import Made, Triggers
from server.operations.writes import Write, Written
from server.rpc.management import Management, named, result_of
from server.rpc.paging import paged
from server.rpc.table import Table, merge
from server.rpc.timestamps import timestamp
from server.rpc.values import json_of

SERVICE: Final = "flagstaff.v1.TriggerService"
PATH: Final = "/v1/triggers/"


def trigger_table(management: Management, triggers: Triggers) -> Table:
    """The service's handlers."""
    service = _Triggers(triggers)
    reads = management.reads(
        SERVICE,
        {
            "GetTrigger": (messages.GetTriggerRequest, service.get),
            "ListTriggers": (messages.ListTriggersRequest, service.list),
        },
        # Whether somebody may read one depends on its environment.
        ask_access=False,
    )
    writes = management.writes(
        SERVICE,
        {
            "CreateTrigger": (messages.CreateTriggerRequest, service.create),
            "RotateTrigger": (messages.RotateTriggerRequest, service.simple(triggers.rotate)),
            "EnableTrigger": (messages.EnableTriggerRequest, service.simple(_switch(triggers, enabled=True))),
            "DisableTrigger": (messages.DisableTriggerRequest, service.simple(_switch(triggers, enabled=False))),
            "DeleteTrigger": (messages.DeleteTriggerRequest, service.simple(triggers.delete)),
        },
    )
    return merge(reads, writes)


def _switch(triggers: Triggers, *, enabled: bool) -> Callable[[str, str, Write], Made]:
    return lambda project, id, write: triggers.set_enabled(project, id, enabled, write)


class _Triggers:
    def __init__(self, triggers: Triggers) -> None:
        self._triggers = triggers

    def create(self, request: Any, write: Write) -> messages.TriggerResponse:
        named(request, "project", "name")
        firing = _effect(request.firing) if request.HasField("firing") else SIGNALLED if request.preset else None
        if firing is None:
            raise InvalidDefinition([Problem("/firing", "say which action is done, or name a preset")])
        wanted = Trigger(
            id="",
            project=request.project,
            environment=request.environment,
            name=request.name,
            firing=firing,
            resolved=_effect(request.resolved) if request.HasField("resolved") else None,
            preset=request.preset,
        )
        return _answer(
            self._triggers.create(
                wanted, write, require_signature=request.require_signature, public_key=request.public_key
            )
        )

    def get(self, request: Any, principal: Principal) -> messages.GetTriggerResponse:
        named(request, "project", "id")
        return messages.GetTriggerResponse(trigger=_message(self._triggers.get(principal, request.project, request.id)))

    def list(self, request: Any, principal: Principal) -> messages.ListTriggersResponse:
        named(request, "project")
        page = paged(self._triggers.list(principal, request.project), request, key=lambda each: each.id)
        return messages.ListTriggersResponse(
            triggers=map(_message, page.items), next_page_token=page.next_page_token, total_size=page.total_size
        )

    def simple(self, do: Callable[[str, str, Write], Made]) -> Callable[[Any, Write], messages.TriggerResponse]:
        """A method that needs to know nothing but which one."""

        def method(request: Any, write: Write) -> messages.TriggerResponse:
            named(request, "project", "id")
            return _answer(do(request.project, request.id, write))

        return method


def _effect(message: messages.TriggerEffect) -> Effect:
    return Effect(message.action, json_of(message.inputs))


def _answer(made: Made) -> messages.TriggerResponse:
    return messages.TriggerResponse(
        trigger=_message(made.trigger),
        path=f"{PATH}{made.secret}" if made.secret else "",
        signing_secret=made.signing_secret,
        result=result_of(Written(made.outcome)),
    )


def _message(trigger: Trigger) -> messages.Trigger:
    message = messages.Trigger(
        project=trigger.project,
        environment=trigger.environment,
        id=trigger.id,
        name=trigger.name,
        preset=trigger.preset,
        firing=_effect_message(trigger.firing),
        resolved=None if trigger.resolved is None else _effect_message(trigger.resolved),
        enabled=trigger.enabled,
        signed=trigger.signed,
        maker=trigger.maker,
        use_count=trigger.use_count,
        version=trigger.version,
    )
    for name in ("used_at", "created_at", "updated_at"):
        at = getattr(trigger, name)
        if at is not None:
            getattr(message, name).CopyFrom(timestamp(at))
    return message


def _effect_message(effect: Effect) -> messages.TriggerEffect:
    message = messages.TriggerEffect(action=effect.action)
    message.inputs.update(effect.inputs)
    return message
