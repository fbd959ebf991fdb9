"""Serve flagstaff.v1.SegmentService."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from protos.flagstaff.v1 import segments_pb2 as messages
from server.core.access import Principal
from server.core.changes import AddSegmentKeys, KeysChange, RemoveSegmentKeys
from server.core.definitions.problems import Problems, pointer
from server.core.definitions.segments import read_segment, write_segment
from server.core.errors import InvalidRequest, NotFound, TooLarge
from server.core.flags import TARGETING_KEY
from server.core.json import Json
from server.core.keylists import Gathering, KeyList
from server.core.limits import BULK_STREAMS_MAX
from server.core.methods import action_of
from server.core.segments import Segment
from server.operations.segments import Segments, StoredSegment, count_keys
from server.operations.writes import Write, Written, require
from server.rpc.call import Abort, Call
from server.rpc.management import Management, named, parse, result_of, scope_of
from server.rpc.masks import masked
from server.rpc.paging import key_page, read_token, size_of, write_token
from server.rpc.status import Status
from server.rpc.table import Handler, Table, bidi, merge
from server.rpc.values import json_of, value_of

SERVICE: Final = "flagstaff.v1.SegmentService"
KEYS_PAGE_SIZE: Final = 1_000
KEYS_PAGE_SIZE_MAX: Final = 10_000
BULK_PAUSE_S: Final = 30.0
"""How long a stream of keys may say nothing, while others wait for their turn."""

_MASK: Final = ("description", "condition", "key_list", "key_list.keys", "key_list.attribute")
_MEMBERS: Final = ("condition", "keys", "keyList", "keyAttribute", "lenient")

Result = TypeVar("Result")
MakeChange: TypeAlias = Callable[[str, KeyList], KeysChange]


def segment_table(management: Management, segments: Segments, *, pause_s: float = BULK_PAUSE_S) -> Table:
    """The service's handlers."""
    service = _Segments(segments)
    bulk = _Bulk(management, segments, pause_s)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateSegment": (messages.CreateSegmentRequest, service.create),
                "UpdateSegment": (messages.UpdateSegmentRequest, service.update),
                "DeleteSegment": (messages.DeleteSegmentRequest, service.delete),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetSegment": (messages.GetSegmentRequest, service.get),
                "ListSegments": (messages.ListSegmentsRequest, service.list),
                "GetSegmentUsage": (messages.GetSegmentUsageRequest, service.usage),
                "ListSegmentKeys": (messages.ListSegmentKeysRequest, service.list_keys),
                "FindSegmentKeys": (messages.FindSegmentKeysRequest, service.find_keys),
            },
        ),
        {
            f"/{SERVICE}/AddSegmentKeys": bulk.handler(f"/{SERVICE}/AddSegmentKeys", AddSegmentKeys),
            f"/{SERVICE}/RemoveSegmentKeys": bulk.handler(f"/{SERVICE}/RemoveSegmentKeys", RemoveSegmentKeys),
        },
    )


class _Segments:
    def __init__(self, segments: Segments) -> None:
        self._segments = segments

    def create(self, request: messages.CreateSegmentRequest, write: Write) -> messages.SegmentResponse:
        named(request, "project", "environment")
        given = request.segment
        segment = _read(given.key, {**_members(given), "description": given.description}, stored=False)
        written = self._segments.create(request.project, request.environment, segment, write)
        return self._response(request, given.key, written)

    def get(self, request: messages.GetSegmentRequest, _principal: Principal) -> messages.GetSegmentResponse:
        named(request, "project", "environment", "key")
        found = self._segments.read(request.project, request.environment, request.key)
        return messages.GetSegmentResponse(segment=_message(found, with_keys=True))

    def list(self, request: messages.ListSegmentsRequest, _principal: Principal) -> messages.ListSegmentsResponse:
        named(request, "project", "environment")
        page = key_page(request, text=request.text)
        found, total = self._segments.list_page(request.project, request.environment, page)
        more = len(found) == page.size
        return messages.ListSegmentsResponse(
            segments=[_message(each) for each in found],
            next_page_token=write_token(found[-1].segment.key) if more else "",
            total_size=total,
        )

    def update(self, request: messages.UpdateSegmentRequest, write: Write) -> messages.SegmentResponse:
        named(request, "project", "environment")
        key = request.segment.key
        if not key:
            raise InvalidRequest("UpdateSegmentRequest needs segment.key")
        chosen = masked(request.update_mask, _MASK)
        if not chosen:
            raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(_MASK)}")
        written = self._segments.update(
            request.project,
            request.environment,
            key,
            change=lambda stored: _changed(stored, request.segment, chosen),
            write=write,
        )
        return self._response(request, key, written)

    def delete(self, request: messages.DeleteSegmentRequest, write: Write) -> messages.DeleteSegmentResponse:
        named(request, "project", "environment", "key")
        written = self._segments.delete(request.project, request.environment, request.key, write)
        return messages.DeleteSegmentResponse(result=result_of(written))

    def usage(
        self, request: messages.GetSegmentUsageRequest, _principal: Principal
    ) -> messages.GetSegmentUsageResponse:
        named(request, "project", "environment", "key")
        uses = self._segments.usage(request.project, request.environment, request.key)
        return messages.GetSegmentUsageResponse(
            uses=[
                messages.SegmentUse(
                    kind=use.user[0], key=use.user[1], through=[f"{kind} {key}" for kind, key in use.through]
                )
                for use in uses
            ]
        )

    def list_keys(
        self, request: messages.ListSegmentKeysRequest, _principal: Principal
    ) -> messages.ListSegmentKeysResponse:
        named(request, "project", "environment", "key")
        size = size_of(request, usual=KEYS_PAGE_SIZE, most=KEYS_PAGE_SIZE_MAX)
        found, total = self._segments.list_keys(
            request.project, request.environment, request.key, after=_place(request.page_token), limit=size
        )
        next_page = ""
        if len(found) == size:
            place, text = found[-1][0]
            next_page = write_token(f"{place}:{text}")
        return messages.ListSegmentKeysResponse(
            keys=[text for _, text in found], next_page_token=next_page, total_size=total
        )

    def find_keys(
        self, request: messages.FindSegmentKeysRequest, _principal: Principal
    ) -> messages.FindSegmentKeysResponse:
        named(request, "project", "environment", "key")
        if len(request.keys) > KEYS_PAGE_SIZE_MAX:
            raise TooLarge(f"{len(request.keys)} keys are asked for, at most {KEYS_PAGE_SIZE_MAX} at once")
        found = self._segments.find(request.project, request.environment, request.key, request.keys)
        return messages.FindSegmentKeysResponse(found=found)

    def _response(self, request: Any, key: str, written: Written) -> messages.SegmentResponse:
        response = messages.SegmentResponse(result=result_of(written))
        try:
            found = self._segments.read(request.project, request.environment, key)
            response.segment.CopyFrom(_message(found))
        except NotFound:
            # A dry run, or a request for a change, created nothing.
            response.ClearField("segment")
        return response


class _Bulk:
    """Streams of keys: read to their last message, then one commit."""

    def __init__(self, management: Management, segments: Segments, pause_s: float) -> None:
        self._management, self._segments, self._pause_s = management, segments, pause_s
        self._turns = asyncio.Semaphore(BULK_STREAMS_MAX)

    def handler(self, path: str, make: MakeChange) -> Handler:
        """The handler of one method."""

        async def handle(messages_in: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
            async with self._turns:
                first, keys = await self._read(path, messages_in, call)
                write = self._management.asked(path, first, call.principal)
                change = make(first.key, keys)
                yield await self._management.run(lambda: self._written(first, change, write))

        return bidi(handle)

    async def _read(
        self, path: str, messages_in: AsyncIterator[bytes], call: Call
    ) -> tuple[messages.ChangeSegmentKeysRequest, KeyList]:
        """The first message, and the keys of all. Errors: InvalidRequest when the last one did not come."""
        gathering = Gathering()
        first: messages.ChangeSegmentKeysRequest | None = None
        incoming = aiter(messages_in)
        while True:
            raw = await self._next(incoming)
            if raw is None:
                raise InvalidRequest("the stream ended without its last message (`last`), so nothing was changed")
            request = await self._beside(partial(parse, messages.ChangeSegmentKeysRequest, raw))
            if first is None:
                require(call.principal, action_of(path), scope_of(request))
                named(request, "project", "environment", "key")
                first = request
            elif request.project or request.environment or request.key or request.HasField("options"):
                raise InvalidRequest("only the first message of the stream says where the keys belong, and options")
            await self._beside(partial(gathering.add, request.keys))
            if request.last:
                first.ClearField("keys")
                return first, await self._beside(gathering.finish)

    async def _next(self, incoming: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout(self._pause_s):
                return await anext(incoming, None)
        except TimeoutError:
            raise Abort(
                Status.DEADLINE_EXCEEDED,
                f"no keys came for {self._pause_s:g} s, so nothing was changed; others wait for their turn",
            ) from None

    async def _beside(self, work: Callable[[], Result]) -> Result:
        # Many keys take a while, in which evaluations go on.
        return await asyncio.get_running_loop().run_in_executor(self._management.threads, work)

    def _written(self, first: messages.ChangeSegmentKeysRequest, change: KeysChange, write: Write) -> bytes:
        done = self._segments.change_keys(first.project, first.environment, change, write)
        return messages.ChangeSegmentKeysResponse(
            changed=done.changed, count=done.count, result=result_of(done.written)
        ).SerializeToString()


def _changed(stored: Segment, given: messages.Segment, chosen: frozenset[str]) -> Segment:
    document = write_segment(stored)
    if "description" in chosen:
        document["description"] = given.description
    if "condition" in chosen:
        _take_members(document)
        document["condition"] = json_of(given.condition) if given.HasField("condition") else None
    if chosen & {"key_list", "key_list.keys"}:
        attribute = document.get("keyAttribute")
        _take_members(document)
        document["keys"] = list(given.key_list.keys)
        if attribute is not None:
            document["keyAttribute"] = attribute
    if chosen & {"key_list", "key_list.attribute"}:
        document["keyAttribute"] = given.key_list.attribute or TARGETING_KEY
    return _read(stored.key, document, stored=True)


def _take_members(document: dict[str, Json]) -> None:
    for name in _MEMBERS:
        document.pop(name, None)


def _members(given: messages.Segment) -> dict[str, Json]:
    match given.WhichOneof("members"):
        case "condition":
            return {"condition": json_of(given.condition)}
        case "key_list":
            attribute = given.key_list.attribute or TARGETING_KEY
            return {"keys": list(given.key_list.keys), "keyAttribute": attribute}
    return {}


def _read(key: str, document: Json, *, stored: bool) -> Segment:
    problems = Problems()
    segment = read_segment(key, document, problems=problems, path=pointer("/segments", key), stored=stored)
    problems.raise_if_any()
    assert segment is not None  # Without a problem there is one.
    return segment


def _message(stored: StoredSegment, *, with_keys: bool = False) -> messages.Segment:
    segment = stored.segment
    message = messages.Segment(
        key=segment.key, description=segment.description, lenient=segment.lenient, version=stored.version
    )
    if segment.keys is None and segment.key_list is None:
        message.condition.CopyFrom(value_of(segment.condition))
        return message
    large = segment.key_list
    message.key_list.CopyFrom(
        messages.KeyList(
            attribute=segment.key_attribute,
            keys=segment.keys if with_keys and segment.keys is not None else (),
            count=count_keys(segment),
            large=large is not None,
            digest="" if large is None else large.digest,
        )
    )
    return message


def _place(page_token: str) -> tuple[int, str] | None:
    text = read_token(page_token)
    if text is None:
        return None
    place, separator, key = text.partition(":")
    if not separator or not place.isdecimal():
        raise InvalidRequest("page_token is not one of this list; send the next_page_token of the page before")
    return int(place), key
