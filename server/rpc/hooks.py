"""Serve flagstaff.v1.HookService: who is told of events, and what became of each delivery."""

from datetime import UTC, datetime
from typing import Any, Final

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import hooks_pb2 as messages
from server.core.access import Principal
from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.core.methods import action_of
from server.operations.hooks.delivered import enable_and_replay, list_deliveries, read_delivery, replay
from server.operations.hooks.formats import formats
from server.operations.hooks.managing import Hooks, HookWritten, SecretWanted
from server.operations.hooks.trying import WAIT_S, Trials
from server.operations.writes import Outcome, Write, require_within
from server.rpc.call import Call
from server.rpc.hook_messages import delivery_message, document_fields, hook_message, read_selection
from server.rpc.management import OUTCOMES, Management, named, parse
from server.rpc.masks import masked
from server.rpc.paging import read_number, read_token, size_of, write_token
from server.rpc.table import Table, merge, unary_async
from webhooks.looking import Place
from webhooks.rotation import OVERLAP_S
from webhooks.subscriptions import FIELDS

SERVICE: Final = "flagstaff.v1.HookService"
TEST: Final = f"/{SERVICE}/TestHook"


def hooks_table(management: Management, hooks: Hooks, trials: Trials | None = None) -> Table:
    """The service's handlers."""
    service = _Hooks(management, hooks, trials or Trials(hooks, management.run))
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateHook": (messages.CreateHookRequest, service.create),
                "UpdateHook": (messages.UpdateHookRequest, service.update),
                "DeleteHook": (messages.DeleteHookRequest, service.delete),
                "RotateHookSecret": (messages.RotateHookSecretRequest, service.rotate),
                "EnableHook": (messages.EnableHookRequest, service.enable),
                "DisableHook": (messages.DisableHookRequest, service.disable),
                "ReplayDeliveries": (messages.ReplayDeliveriesRequest, service.replay),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetHook": (messages.GetHookRequest, service.get),
                "ListHooks": (messages.ListHooksRequest, service.list),
                "ListDeliveries": (messages.ListDeliveriesRequest, service.deliveries),
                "GetDelivery": (messages.GetDeliveryRequest, service.delivery),
                "ListFormats": (messages.ListFormatsRequest, service.formats),
            },
            # Who may look at one environment may look at the hooks that get its events alone.
            ask_access=False,
        ),
        {TEST: unary_async(service.test)},
    )


class _Hooks:
    def __init__(self, management: Management, hooks: Hooks, trials: Trials) -> None:
        self._management, self._hooks, self._trials = management, hooks, trials

    def create(self, request: Any, write: Write) -> messages.CreateHookResponse:
        named(request, "project")
        document = document_fields(request.hook)
        if request.environment:
            document["filter"]["environments"] = _only(request.environment, document["filter"]["environments"])
        written = self._hooks.create(request.project, document, _wanted(request), write)
        return messages.CreateHookResponse(
            hook=hook_message(written.hook), secret=written.secret, result=_result(written, "is told of events")
        )

    def update(self, request: Any, write: Write) -> messages.HookResponse:
        named(request, "project", "id")
        names = masked(request.update_mask, FIELDS)
        if not names:
            raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(FIELDS)}")
        changes = document_fields(request.hook, sorted(names))
        return _response(self._hooks.update(request.project, request.id, changes, write), "is another one")

    def delete(self, request: Any, write: Write) -> messages.DeleteHookResponse:
        named(request, "project", "id")
        outcome = self._hooks.delete(request.project, request.id, write)
        changes = [] if outcome is Outcome.UNCHANGED else [f"hook {request.id} is deleted"]
        return messages.DeleteHookResponse(result=common.WriteResult(outcome=OUTCOMES[outcome], changes=changes))

    def rotate(self, request: Any, write: Write) -> messages.RotateHookSecretResponse:
        named(request, "project", "id")
        overlap_s = request.overlap.ToTimedelta().total_seconds() if request.HasField("overlap") else OVERLAP_S
        written = self._hooks.rotate(request.project, request.id, _wanted(request), write, overlap_s=overlap_s)
        return messages.RotateHookSecretResponse(
            hook=hook_message(written.hook), secret=written.secret, result=_result(written, "has another secret")
        )

    def enable(self, request: Any, write: Write) -> messages.EnableHookResponse:
        named(request, "project", "id")
        written, replayed = enable_and_replay(
            self._hooks, request.project, request.id, write, skips=request.skip_missed
        )
        return messages.EnableHookResponse(
            hook=hook_message(written.hook),
            replayed=replayed.count,
            next_page_token=_ms_token(replayed.finished_by),
            result=_result(written, "is enabled"),
        )

    def disable(self, request: Any, write: Write) -> messages.HookResponse:
        named(request, "project", "id")
        return _response(self._hooks.disable(request.project, request.id, write), "is disabled")

    def replay(self, request: Any, write: Write) -> messages.ReplayDeliveriesResponse:
        named(request, "project", "id")
        token = read_number(request.page_token)
        finished_by = None if token is None else datetime.fromtimestamp(token / 1_000, UTC)
        selection = read_selection(request.selection)
        replayed = replay(self._hooks, request.project, request.id, selection, write, finished_by=finished_by)
        count = replayed.count
        lines = [f"{count} {'delivery is' if count == 1 else 'deliveries are'} sent again"] if count else []
        return messages.ReplayDeliveriesResponse(
            replayed=count,
            next_page_token=_ms_token(replayed.finished_by),
            result=common.WriteResult(outcome=OUTCOMES[replayed.outcome], changes=lines),
        )

    async def test(self, raw: bytes, call: Call) -> bytes:
        request: Any = parse(messages.TestHookRequest, raw)
        require_within(call.principal, action_of(TEST), request.project)
        named(request, "project", "id")
        write = self._management.asked(TEST, request, call.principal)
        wait_s = request.wait.ToTimedelta().total_seconds() if request.HasField("wait") else WAIT_S
        tested = await self._trials.test(request.project, request.id, write, message=request.message, wait_s=wait_s)
        reply = messages.TestHookResponse(
            said=tested.said,
            event_id=tested.event_id,
            result=common.WriteResult(outcome=OUTCOMES[tested.outcome]),
        )
        if tested.delivery is not None:
            reply.delivery.CopyFrom(delivery_message(tested.delivery))
        return reply.SerializeToString()

    def get(self, request: Any, principal: Principal) -> messages.GetHookResponse:
        named(request, "project", "id")
        return messages.GetHookResponse(hook=hook_message(self._hooks.read(request.project, request.id, principal)))

    def list(self, request: Any, principal: Principal) -> messages.ListHooksResponse:
        named(request, "project")
        size, after = size_of(request), read_token(request.page_token) or ""
        found = self._hooks.list_all(request.project, principal)
        rest = [each for each in found if each.endpoint.id > after]
        more = len(rest) > size
        return messages.ListHooksResponse(
            hooks=[hook_message(each) for each in rest[:size]],
            next_page_token=write_token(rest[size - 1].endpoint.id) if more else "",
            total_size=len(found),
        )

    def deliveries(self, request: Any, principal: Principal) -> messages.ListDeliveriesResponse:
        named(request, "project")
        size = size_of(request)
        found = list_deliveries(
            self._hooks,
            request.project,
            read_selection(request.selection),
            principal,
            id=request.id,
            after=read_place(request.page_token),
            limit=size + 1,
        )
        page = found[:size]
        return messages.ListDeliveriesResponse(
            deliveries=[delivery_message(each) for each in page],
            next_page_token=write_place(Place(page[-1].sequence, page[-1].id)) if len(found) > size else "",
        )

    def delivery(self, request: Any, principal: Principal) -> messages.GetDeliveryResponse:
        named(request, "project", "id")
        delivery = read_delivery(self._hooks, request.project, request.id, principal)
        return messages.GetDeliveryResponse(delivery=delivery_message(delivery))

    def formats(self, _request: Any, _principal: Principal) -> messages.ListFormatsResponse:
        reply = messages.ListFormatsResponse()
        for each in formats():
            told = reply.formats.add(
                name=each.name,
                description=each.description,
                secrets=each.secrets,
                template=each.template,
                target=each.target,
            )
            told.settings_schema.update(each.settings_schema)
        return reply


def write_place(place: Place) -> str:
    """Where a page of deliveries ended, as its reader gets it."""
    return write_token(f"{place.sequence} {place.id}")


def read_place(token: str) -> Place | None:
    """Where the page before ended; None when this is the first. Errors: InvalidRequest."""
    text = read_token(token)
    if text is None:
        return None
    sequence, _, id_ = text.partition(" ")
    return Place(read_number(sequence) or 0, id_)


def _only(environment: str, named_: list[str]) -> list[str]:
    if named_ and named_ != [environment]:
        raise InvalidDefinition(
            [Problem("/filter/environments", f"names others than environment {environment!r}; leave one of both out")]
        )
    return [environment]


def _wanted(request: Any) -> SecretWanted:
    return SecretWanted(request.secret, request.asymmetric)


def _ms_token(at: datetime | None) -> str:
    return "" if at is None else str(int(at.timestamp() * 1_000))


def _response(written: HookWritten, now: str) -> messages.HookResponse:
    return messages.HookResponse(hook=hook_message(written.hook), result=_result(written, now))


def _result(written: HookWritten, now: str) -> common.WriteResult:
    endpoint = written.hook.endpoint
    changes = [] if written.outcome is Outcome.UNCHANGED else [f"hook {endpoint.id} ({endpoint.url_shown}) {now}"]
    return common.WriteResult(outcome=OUTCOMES[written.outcome], changes=changes, warnings=written.warnings)
