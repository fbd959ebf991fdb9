"""Serve flagstaff.v1.HistoryService: what happened, what things were, what flags answered then, and reverts."""

from typing import Any, Final

from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import history_pb2 as messages
from server.core.access import Principal
from server.core.audit import AuditEntry
from server.core.errors import InvalidRequest, TooLarge
from server.core.limits import WATCHED_KEYS_MAX
from server.core.resolution import Resolution
from server.operations.asof import AsOf, Move, Moved
from server.operations.audit import differences_of
from server.operations.history import History, Place, Revert, When
from server.operations.writes import Write
from server.rpc.context import decode
from server.rpc.convert import ours_slice
from server.rpc.differences import difference_message
from server.rpc.management import Management, named, result_of
from server.rpc.table import Table, merge
from server.rpc.timestamps import instant, timestamp
from server.store.history import Thing

SERVICE: Final = "flagstaff.v1.HistoryService"
PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1_000
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024

_KINDS: Final = {
    messages.THING_KIND_FLAG: "flag",
    messages.THING_KIND_SEGMENT: "segment",
    messages.THING_KIND_ENVIRONMENT: "environment",
}
_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}


def history_table(management: Management, history: History, past: AsOf) -> Table:
    """The service's handlers."""
    service = _HistoryService(history, past)
    return merge(
        management.reads(
            SERVICE,
            {
                "ListRevisions": (messages.ListRevisionsRequest, service.list),
                "GetRevision": (messages.GetRevisionRequest, service.get),
                "EvaluateAsOf": (messages.EvaluateAsOfRequest, service.evaluate),
                "DiffEvaluations": (messages.DiffEvaluationsRequest, service.compare),
            },
        ),
        management.writes(SERVICE, {"Revert": (messages.RevertRequest, service.revert)}),
    )


class _HistoryService:
    def __init__(self, history: History, past: AsOf) -> None:
        self._history, self._past = history, past

    def list(self, request: Any, _principal: Principal) -> messages.ListRevisionsResponse:
        if not 0 <= request.page_size <= PAGE_SIZE_MAX:
            raise InvalidRequest(f"page_size is {request.page_size}, expected 0 to {PAGE_SIZE_MAX}")
        limit = request.page_size or PAGE_SIZE
        entries, total = self._history.revisions(
            _place(request), _thing(request), before_sequence=_page(request.page_token), limit=limit
        )
        reply = messages.ListRevisionsResponse(total_size=total)
        size = 0
        for entry in entries:
            message = _revision_message(entry, full=request.full)
            size += message.ByteSize()
            if reply.revisions and size > PAGE_BYTES_MAX:
                break
            reply.revisions.append(message)
        if len(reply.revisions) < len(entries) or len(entries) == limit:
            reply.next_page_token = str(reply.revisions[-1].audit_sequence)
        return reply

    def get(self, request: Any, _principal: Principal) -> messages.GetRevisionResponse:
        past = self._history.past(_place(request), _thing(request), _when(request.as_of))
        return messages.GetRevisionResponse(
            revision=past.moment.revision, at=timestamp(past.moment.at), document=past.text
        )

    def revert(self, request: Any, write: Write) -> messages.RevertResponse:
        named(request, "revision")
        how = Revert(request.keep_shared, request.rerandomise, request.replace_variants)
        written = self._history.revert(
            _place(request), _thing(request), revision=request.revision, how=how, write=write
        )
        return messages.RevertResponse(result=result_of(written))

    def evaluate(self, request: Any, _principal: Principal) -> messages.EvaluateAsOfResponse:
        named(request, "flag_key")
        context = decode(request.context.SerializeToString(), None)
        answer = self._past.evaluate(
            _place(request), request.flag_key, context, when=_when(request.as_of), explained=request.explain
        )
        return messages.EvaluateAsOfResponse(
            resolution=_resolution(answer.resolution),
            revision=answer.moment.revision,
            at=timestamp(answer.moment.at),
            steps=[
                messages.ExplainStep(what=each.what, outcome=each.outcome, detail=each.detail) for each in answer.steps
            ],
        )

    def compare(self, request: Any, _principal: Principal) -> messages.DiffEvaluationsResponse:
        if request.first.WhichOneof("moment") is None:
            raise InvalidRequest("DiffEvaluationsRequest needs first: the earlier moment")
        if len(request.flag_keys) > WATCHED_KEYS_MAX:
            raise TooLarge(
                f"{len(request.flag_keys)} flags are asked for by key, at most {WATCHED_KEYS_MAX} are allowed; "
                "name none, to get every flag"
            )
        moments = self._past.compare(
            _place(request),
            decode(request.context.SerializeToString(), None),
            first=_when(request.first),
            second=_when(request.second),
            keys=request.flag_keys,
        )
        return messages.DiffEvaluationsResponse(
            flags=[_moved_message(each) for each in moments.moved],
            first_revision=moments.first.revision,
            second_revision=moments.second.revision,
        )


def _place(request: Any) -> Place:
    named(request, "project", "environment")
    return Place(request.project, request.environment)


def _thing(request: Any) -> Thing:
    kind = _KINDS.get(request.kind)
    if kind is None:
        raise InvalidRequest(f"{request.DESCRIPTOR.name} needs kind: a flag, a segment or the environment")
    if kind != "environment":
        named(request, "key")
    elif request.key not in ("", request.environment):
        raise InvalidRequest(f"environment {request.environment!r} has its own key, not {request.key!r}; leave key out")
    return kind, request.key or request.environment


def _when(as_of: Any) -> When:
    match as_of.WhichOneof("moment"):
        case "revision":
            if as_of.revision < 1:
                raise InvalidRequest(f"as_of.revision is {as_of.revision}; revisions begin with 1")
            return When(revision=as_of.revision)
        case "at":
            return When(at=instant(as_of.at, "as_of.at"))
    return When()


def _page(token: str) -> int | None:
    if not token:
        return None
    if not (token.isascii() and token.isdigit() and len(token) < 20):
        raise InvalidRequest("page_token is not one that this method gave; leave it out to begin anew")
    return int(token)


def _revision_message(entry: AuditEntry, *, full: bool) -> messages.ThingRevision:
    return messages.ThingRevision(
        revision=entry.revision,
        at=timestamp(entry.at),
        actor=entry.actor,
        action=entry.action,
        reason=entry.reason,
        cause=entry.cause,
        request_id=entry.request_id,
        audit_sequence=entry.sequence,
        differences=[difference_message(each, full=full) for each in differences_of(entry)],
        kind=_NUMBERS.get(entry.subject_kind, messages.THING_KIND_UNSPECIFIED),
        key=entry.subject_key,
    )


def _moved_message(moved: Moved) -> messages.MovedFlag:
    return messages.MovedFlag(
        flag_key=moved.key,
        before=_resolution(moved.before),
        after=_resolution(moved.after),
        moves=[_move_message(each) for each in moved.moves],
        moved_by_clock=moved.by_clock and moved.is_explained,
        incomplete=not moved.is_explained,
    )


def _move_message(move: Move) -> messages.EvaluationMove:
    return messages.EvaluationMove(
        revision=move.moment.revision,
        at=timestamp(move.moment.at),
        after=_resolution(move.after),
        changes=[_revision_message(each, full=False) for each in move.entries],
    )


def _resolution(resolution: Resolution) -> evaluation.Resolution:
    # Field 1 of this message, with its tag.
    message: evaluation.Resolution = evaluation.EvaluateResponse.FromString(ours_slice(resolution)).resolution
    return message
