"""Serve flagstaff.v1.RuleService: what is done by itself when something happens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from protos.flagstaff.v1 import rules_pb2 as messages
from server.core.access import Principal
from server.core.errors import FlagstaffError, InvalidRequest, StoreUnavailable
from server.core.methods import action_of
from server.core.rules.presets import PRESETS, from_preset
from server.core.rules.rules import PER_MINUTE, Act, Definition, Deliver, RuleState, RunState, Then, Wanted
from server.operations.rules.managing import Rules, RuleWritten, Tried
from server.operations.writes import Write, Written, require
from server.rpc.actions.running import Actions
from server.rpc.actions.service import response as action_response
from server.rpc.call import Call
from server.rpc.management import Management, named, parse, result_of, scope_of
from server.rpc.masks import masked
from server.rpc.paging import paged, read_number, size_of
from server.rpc.table import Table, merge, unary_async
from server.rpc.timestamps import timestamp
from server.rpc.values import json_of
from server.store.rule_runs import StoredRun
from server.store.rules import StoredRule

SERVICE: Final = "flagstaff.v1.RuleService"
TRY: Final = f"/{SERVICE}/TryRule"

_MASK: Final = ("name", "description", "when", "then", "per_minute")
_STATES: Final = {each: messages.RunState.Value(f"RUN_STATE_{each.name}") for each in RunState}
_STATE_BY_NUMBER: Final[Mapping[int, RunState]] = {int(number): state for state, number in _STATES.items()}


def rules_table(management: Management, rules: Rules, actions: Actions) -> Table:
    """The service's handlers."""
    service = _Rules(management, rules, actions)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateRule": (messages.CreateRuleRequest, service.create),
                "UpdateRule": (messages.UpdateRuleRequest, service.update),
                "DeleteRule": (messages.DeleteRuleRequest, service.delete),
                "EnableRule": (messages.EnableRuleRequest, service.enable),
                "DisableRule": (messages.DisableRuleRequest, service.disable),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetRule": (messages.GetRuleRequest, service.get),
                "ListRules": (messages.ListRulesRequest, service.list),
                "ListRuleRuns": (messages.ListRuleRunsRequest, service.runs),
                "ListRulePresets": (messages.ListRulePresetsRequest, service.presets),
            },
        ),
        {TRY: unary_async(service.try_on)},
    )


class _Rules:
    def __init__(self, management: Management, rules: Rules, actions: Actions) -> None:
        self._management, self._rules, self._actions = management, rules, actions

    def create(self, request: messages.CreateRuleRequest, write: Write) -> messages.RuleResponse:
        named(request, "project")
        given = request.rule
        if request.preset:
            definition = from_preset(request.preset, given.deliver.endpoint_id)
            definition = replace(definition, name=given.name or definition.name)
        else:
            definition = _definition(given)
        return _response(self._rules.create(request.project, definition, write, enabled=not request.disabled))

    def update(self, request: messages.UpdateRuleRequest, write: Write) -> messages.RuleResponse:
        named(request, "project")
        if not request.rule.id:
            raise InvalidRequest("UpdateRuleRequest needs rule.id")
        chosen = masked(request.update_mask, _MASK)
        if not chosen:
            raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(_MASK)}")
        given = request.rule
        changes: dict[str, Any] = {}
        for name in chosen:
            match name:
                case "when":
                    changes[name] = _when(given.when)
                case "then":
                    changes[name] = _then(given)
                case _:
                    changes[name] = getattr(given, name)
        if "per_minute" in changes:
            changes["per_minute"] = given.per_minute or PER_MINUTE
        return _response(
            self._rules.update(request.project, given.id, lambda before: replace(before, **changes), write)
        )

    def delete(self, request: messages.DeleteRuleRequest, write: Write) -> messages.DeleteRuleResponse:
        named(request, "project", "id")
        written = self._rules.delete(request.project, request.id, write)
        return messages.DeleteRuleResponse(result=result_of(Written(written.outcome)))

    def enable(self, request: messages.EnableRuleRequest, write: Write) -> messages.RuleResponse:
        named(request, "project", "id")
        return _response(self._rules.enable(request.project, request.id, write, enabled=True))

    def disable(self, request: messages.DisableRuleRequest, write: Write) -> messages.RuleResponse:
        named(request, "project", "id")
        return _response(self._rules.enable(request.project, request.id, write, enabled=False))

    def get(self, request: messages.GetRuleRequest, _principal: Principal) -> messages.GetRuleResponse:
        named(request, "project", "id")
        rule, waiting = self._rules.read(request.project, request.id)
        return messages.GetRuleResponse(rule=_message(rule, waiting))

    def list(self, request: messages.ListRulesRequest, _principal: Principal) -> messages.ListRulesResponse:
        named(request, "project")
        rules, waiting = self._rules.list_all(request.project)
        page = paged(rules, request, key=lambda each: each.id)
        return messages.ListRulesResponse(
            rules=[_message(each, waiting.get(each.id, 0)) for each in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )

    def runs(self, request: messages.ListRuleRunsRequest, _principal: Principal) -> messages.ListRuleRunsResponse:
        named(request, "project", "id")
        size = size_of(request)
        found = self._rules.runs(
            request.project,
            request.id,
            states=tuple(_state(number) for number in request.states),
            before=read_number(request.page_token),
            limit=size + 1,
        )
        more = len(found) > size
        return messages.ListRuleRunsResponse(
            runs=[_run(each) for each in found[:size]],
            next_page_token=str(found[size - 1].sequence) if more else "",
        )

    def presets(
        self, _request: messages.ListRulePresetsRequest, _principal: Principal
    ) -> messages.ListRulePresetsResponse:
        reply = messages.ListRulePresetsResponse()
        for preset in PRESETS.values():
            told = reply.presets.add(key=preset.key, description=preset.says)
            _describe(told.rule, preset.definition)
        return reply

    async def try_on(self, raw: bytes, call: Call) -> bytes:
        request = parse(messages.TryRuleRequest, raw)
        named(request, "project")
        require(call.principal, action_of(TRY), scope_of(request))
        if bool(request.id) == request.HasField("rule"):
            raise InvalidRequest("name a rule by its id, or give one, and not both")
        tried = await self._management.run(lambda: self._tried(request))
        reply = messages.TryRuleResponse(wanted=tried.wanted, problem=tried.problem, endpoint_id=tried.endpoint_id)
        if tried.asked is not None:
            asked = replace(tried.asked, dry_run=True, idempotency_key="")
            reply.act.action, reply.act.reason = asked.name, asked.reason
            reply.act.inputs.update(asked.inputs)
            try:
                done = await self._actions.run(asked, call.principal)
                reply.would.CopyFrom(action_response(done))
            except StoreUnavailable:
                raise
            except FlagstaffError as error:
                reply.problem = str(error)
        return reply.SerializeToString()

    def _tried(self, request: messages.TryRuleRequest) -> Tried:
        definition = self._rules.find(request.project, request.id) if request.id else _definition(request.rule)
        event = json_of(request.event) if request.HasField("event") else None
        return self._rules.try_on(request.project, definition, event_id=request.event_id, event=event)


def _definition(given: messages.AutomationRule) -> Definition:
    return Definition(given.name, _when(given.when), _then(given), given.description, given.per_minute or PER_MINUTE)


def _when(given: messages.RuleCondition) -> Wanted:
    return Wanted(
        tuple(given.event_types),
        tuple(given.environments),
        tuple(given.tags),
        tuple(given.owners),
        given.expression,
    )


def _then(given: messages.AutomationRule) -> Then:
    match given.WhichOneof("then"):
        case "act":
            return Act(given.act.action, json_of(given.act.inputs), given.act.reason)
        case "deliver":
            return Deliver(given.deliver.endpoint_id)
    raise InvalidRequest("a rule says what is done: act, with an action, or deliver, with an endpoint")


def _state(number: int) -> RunState:
    state = _STATE_BY_NUMBER.get(number)
    if state is None:
        names = ", ".join(f"RUN_STATE_{each.name}" for each in RunState)
        raise InvalidRequest(f"states has {number}, expected some of {names}")
    return state


def _response(written: RuleWritten) -> messages.RuleResponse:
    return messages.RuleResponse(rule=_message(written.rule, 0), result=result_of(Written(written.outcome)))


def _message(rule: StoredRule, waiting: int) -> messages.AutomationRule:
    message = messages.AutomationRule(
        id=rule.id,
        enabled=rule.state is RuleState.ENABLED,
        why=rule.why,
        author=rule.author,
        version=rule.version,
        created_at=timestamp(rule.created_at),
        updated_at=timestamp(rule.updated_at),
        failure_count=rule.health.failure_count,
        waiting=waiting,
    )
    if rule.health.failing_since is not None:
        message.failing_since.CopyFrom(timestamp(rule.health.failing_since))
    _describe(message, rule.definition)
    return message


def _describe(message: messages.AutomationRule, definition: Definition) -> None:
    when, then = definition.when, definition.then
    message.name, message.description = definition.name, definition.description
    message.per_minute = definition.per_minute
    message.when.event_types.extend(when.event_types)
    message.when.environments.extend(when.environments)
    message.when.tags.extend(when.tags)
    message.when.owners.extend(when.owners)
    message.when.expression = when.expression
    if isinstance(then, Deliver):
        message.deliver.endpoint_id = then.endpoint_id
    else:
        message.act.action, message.act.reason = then.action, then.reason
        message.act.inputs.update(then.inputs)


def _run(run: StoredRun) -> messages.RuleRun:
    message = messages.RuleRun(
        event_id=run.event,
        event_type=run.event_type,
        sequence=run.sequence,
        hops=run.hops,
        state=_STATES[run.state],
        request=run.request,
        result=run.result,
        attempts=run.attempt_count,
        created_at=timestamp(run.created_at),
    )
    for name, at in (("due_at", run.due_at), ("finished_at", run.finished_at)):
        if at is not None:
            getattr(message, name).CopyFrom(timestamp(at))
    return message
