"""Serve flagstaff.v1.ChangeRequestService: changes that others must agree to."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from protos.flagstaff.v1 import change_requests_pb2 as messages
from server.core.access import Action, Principal
from server.core.change_requests.machine import State
from server.core.errors import InvalidRequest, Moved
from server.operations.change_requests.applying import Applying
from server.operations.change_requests.review import Detail, Review
from server.operations.change_requests.steps import Went
from server.operations.proposals import Removals, document_parts
from server.operations.writes import Write, Written
from server.rpc.management import Management, named, result_of
from server.rpc.paging import LONG_SIZE, LONG_SIZE_MAX, read_place, size_of, write_place
from server.rpc.simulation import proposed
from server.rpc.table import Table, merge
from server.store.change_request_steps import StoredStep
from server.store.change_requests import StoredRequest, Wanted
from server.store.commit import Part

SERVICE: Final = "flagstaff.v1.ChangeRequestService"

_STATES: Final = {each: messages.ChangeRequest.State.Value(f"STATE_{each.name}") for each in State}
_BY_NUMBER: Final[dict[int, State]] = {int(number): state for state, number in _STATES.items()}


def change_requests_table(management: Management, review: Review, applying: Applying) -> Table:
    """The service's handlers."""
    service = _ChangeRequests(management, review, applying)
    reads = management.reads(
        SERVICE,
        {
            "GetChangeRequest": (messages.GetChangeRequestRequest, service.get),
            "ListChangeRequests": (messages.ListChangeRequestsRequest, service.list),
        },
        # Whether somebody may read one depends on the environments that it reaches.
        ask_access=False,
    )
    writes = management.writes(
        SERVICE,
        {
            "CommentOnChangeRequest": (messages.CommentOnChangeRequestRequest, service.comment),
            "ApproveChangeRequest": (messages.ApproveChangeRequestRequest, service.approve),
            "RejectChangeRequest": (messages.RejectChangeRequestRequest, service.reject),
            "WithdrawChangeRequest": (messages.WithdrawChangeRequestRequest, service.withdraw),
            "UpdateChangeRequest": (messages.UpdateChangeRequestRequest, service.update),
            "ApplyChangeRequest": (messages.ApplyChangeRequestRequest, service.apply),
            "ScheduleChangeRequest": (messages.ScheduleChangeRequestRequest, service.schedule),
        },
    )
    return merge(reads, writes)


class _ChangeRequests:
    def __init__(self, management: Management, review: Review, applying: Applying) -> None:
        self._management, self._review, self._applying = management, review, applying

    def get(self, request: Any, principal: Principal) -> messages.GetChangeRequestResponse:
        named(request, "project", "id")
        detail = self._review.read_detail(principal, project=request.project, id=request.id)
        return _detailed(detail)

    def list(
        self, request: messages.ListChangeRequestsRequest, principal: Principal
    ) -> messages.ListChangeRequestsResponse:
        named(request, "project")
        if bool(request.kind) != bool(request.key):
            raise InvalidRequest("kind and key name one thing together: give both or neither")
        size = size_of(request, usual=LONG_SIZE, most=LONG_SIZE_MAX)
        page = self._review.page(
            principal,
            project=request.project,
            wanted=Wanted(
                states=[_state(each) for each in request.states],
                author=request.author,
                environment=request.environment,
                subject=(request.kind, request.key) if request.kind else None,
            ),
            after=read_place(request.page_token),
            limit=size + 1,
        )
        shown = page.requests[:size]
        token = write_place(shown[-1].created_at, shown[-1].id) if len(page.requests) > size else ""
        return messages.ListChangeRequestsResponse(
            change_requests=[change_request(each) for each in shown], next_page_token=token, total_size=page.count
        )

    def comment(self, request: Any, write: Write) -> messages.CommentOnChangeRequestResponse:
        named(request, "project", "id")
        went = self._review.comment(write, project=request.project, id=request.id, text=request.text)
        return messages.CommentOnChangeRequestResponse(**_answer(went))

    def approve(self, request: Any, write: Write) -> messages.ApproveChangeRequestResponse:
        named(request, "project", "id")
        went = self._review.approve(write, project=request.project, id=request.id, text=request.text)
        return messages.ApproveChangeRequestResponse(**_answer(went))

    def reject(self, request: Any, write: Write) -> messages.RejectChangeRequestResponse:
        named(request, "project", "id")
        went = self._review.reject(write, project=request.project, id=request.id, text=request.text)
        return messages.RejectChangeRequestResponse(**_answer(went))

    def withdraw(self, request: Any, write: Write) -> messages.WithdrawChangeRequestResponse:
        named(request, "project", "id")
        went = self._review.withdraw(write, project=request.project, id=request.id, text=request.text)
        return messages.WithdrawChangeRequestResponse(**_answer(went))

    def update(self, request: Any, write: Write) -> messages.UpdateChangeRequestResponse:
        named(request, "project", "id")
        match request.WhichOneof("content"):
            case "document":
                went = self._put_document(request, write)
            case "write":
                went = self._put_write(request, write)
            case _:
                went = self._review.rebase(write, project=request.project, id=request.id)
        return messages.UpdateChangeRequestResponse(**_answer(went))

    def _put_document(self, request: Any, write: Write) -> Went:
        named(request, "environment")
        document = request.document
        parts = document_parts(
            document.text.encode(),
            project=request.project,
            environment=request.environment,
            removals=Removals(tuple(document.remove_flags), tuple(document.remove_segments)),
        )
        edit = replace(write, action=Action.EDIT)
        return self._review.revise(edit, project=request.project, id=request.id, parts=parts, replace_variants=False)

    def _put_write(self, request: Any, write: Write) -> Went:
        """Let the service that the write is for say which changes it comes to, and ask for those."""
        function, inner, asked = proposed(self._management, request.write, write.principal)
        revised: list[Went] = []

        def instead(project: str, parts: Sequence[Part], replace_variants: bool) -> Written:
            if project != request.project or revised:
                raise InvalidRequest(f"a change request of project {request.project!r} is one commit to it")
            own = replace(write, action=asked.action)
            went = self._review.revise(
                own, project=project, id=request.id, parts=parts, replace_variants=replace_variants
            )
            revised.append(went)
            return went.written

        function(inner, replace(asked, request_id="", dry_run=write.dry_run, instead=instead))
        if not revised:
            raise InvalidRequest(f"{type(inner).DESCRIPTOR.name} comes to no change that can be asked for")
        return revised[0]

    def apply(self, request: Any, write: Write) -> messages.ApplyChangeRequestResponse:
        named(request, "project", "id")
        went = self._applying.apply(write, project=request.project, id=request.id)
        return messages.ApplyChangeRequestResponse(**_answer(went))

    def schedule(self, request: Any, write: Write) -> messages.ScheduleChangeRequestResponse:
        named(request, "project", "id")
        if request.HasField("apply_at"):
            at = _instant(request.apply_at)
            went = self._review.schedule(write, project=request.project, id=request.id, at=at)
        else:
            went = self._review.unschedule(write, project=request.project, id=request.id)
        return messages.ScheduleChangeRequestResponse(**_answer(went))


def change_request(request: StoredRequest) -> messages.ChangeRequest:
    """A change request as a message."""
    progress = request.progress
    return messages.ChangeRequest(
        project=request.project,
        id=request.id,
        state=_STATES[progress.state],
        title=request.title,
        cause=request.cause,
        authors=progress.authors,
        content_version=progress.content_number,
        differences=[
            messages.EnvironmentDifference(environment=name, lines=lines) for name, lines in request.lines.items()
        ],
        approvals=[messages.ChangeApproval(actor=each.actor, at=_timestamp(each.at)) for each in progress.approvals],
        apply_at=None if progress.apply_at is None else _timestamp(progress.apply_at),
        scheduled_by=progress.scheduled_by,
        revisions=progress.revisions,
        note=progress.note,
        created_at=_timestamp(request.created_at),
        updated_at=_timestamp(request.updated_at),
    )


def _answer(went: Went) -> dict[str, Any]:
    return {"change_request": change_request(went.request), "result": result_of(went.written)}


def _detailed(detail: Detail) -> messages.GetChangeRequestResponse:
    return messages.GetChangeRequestResponse(
        change_request=change_request(detail.request),
        steps=[_step(each) for each in detail.steps],
        approvals=[
            messages.ApprovalStatus(environment=each.environment, needed=each.needed_count, approvers=each.approvers)
            for each in detail.approvals
        ],
        moved=[_moved(each) for each in detail.moved],
        content=detail.request.content,
    )


def _step(step: StoredStep) -> messages.ChangeRequestStep:
    return messages.ChangeRequestStep(
        number=step.number,
        happening=step.happening.value,
        actor=step.actor,
        text=step.text,
        content_version=step.content_number,
        at=_timestamp(step.at),
    )


def _moved(moved: Moved) -> messages.MovedThing:
    return messages.MovedThing(
        environment=moved.environment,
        kind=moved.kind,
        key=moved.key,
        expected_version=moved.expected or 0,
        version=moved.found or 0,
    )


def _timestamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def _instant(stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest("apply_at is no instant between the years 1 and 9999") from None


def _state(number: Any) -> State:
    state: State | None = _BY_NUMBER.get(number)
    if state is None:
        raise InvalidRequest(f"states has {number}, which is no state of a change request")
    return state
