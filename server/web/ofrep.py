"""Serve the OpenFeature Remote Evaluation Protocol, version 0.3.0: one flag, or all of a flag set.

Every refusal has a status and a JSON body, so that a client can tell what is wrong; a flag that is broken is a failure
of its own within a bulk evaluation. Who may ask is decided before, by web/access.py.

Source: OFREP 0.3.0, service/openapi.yaml; flagd's OFREP service where OFREP leaves a choice.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from server.core.context import Enrichment
from server.core.errors import FlagstaffError, InvalidRequest, NotFound, StoreUnavailable
from server.core.evaluation.snapshot import Snapshot, missing
from server.core.resolution import ErrorCode
from server.live.holder import Holder
from server.operations.counts import Seen, unseen
from server.operations.evaluate import find, flag_keys, select
from server.web.context import read_context
from server.web.ofrep_replies import Echo, bulk_head, bulk_tail, encoded_answer, failure_body
from server.web.replies import CLOSE, HeaderLines, Reply, failed, try_later
from server.web.requests import Headers, Refused, check_is_json, headers_of, read_body, text_header
from server.web.tags import answer_tag, is_held, revision_of

PROTOCOL: Final = "ofrep"
SELECTOR_HEADER: Final = b"flagd-selector"
PACE_FLAGS: Final = 500
"""A large flag set lets other requests in after so many flags, a few milliseconds of work."""

CATCH_UP_S: Final = 1.0
"""A client that was told of a revision by another process is made to wait for ours, but no longer than this."""

CATCH_UP_LOOK_S: Final = 0.02
_NO_BODY_LEFT: Final = (408, 413)


class BadContext(InvalidRequest):
    """The body has no context that can be evaluated with."""


class Ofrep:
    """What both endpoints share. Units: clock gives seconds since 1970, UTC; it is read once a request."""

    def __init__(
        self, holder: Holder, *, clock: Callable[[], float], enrichment: Enrichment, seen: Seen = unseen
    ) -> None:
        self._holder = holder
        self._clock = clock
        self._enrichment = enrichment
        self._seen = seen

    async def read(self, headers: Headers, receive: Receive) -> Mapping[str, Any]:
        """The context to evaluate with. Errors: Refused, BadContext."""
        check_is_json(headers)
        body = await read_body(headers, receive)
        try:
            context = read_context(body)
        except FlagstaffError as error:
            raise BadContext(str(error)) from None
        if not self._enrichment:
            return context
        return self._enrichment.merged(context, lambda name: text_header(headers, name))

    def choose(self, headers: Headers) -> tuple[Snapshot, Echo | None]:
        """The flag set that the selector names. Errors: InvalidRequest, NotFound, StoreUnavailable."""
        selector = headers.get(SELECTOR_HEADER)
        if not selector:
            return find(self._holder, ""), None
        return select(self._holder, selector.decode("latin-1"))

    def evaluate(
        self, snapshot: Snapshot, key: str, *, context: Mapping[str, Any], echo: Echo | None
    ) -> tuple[int, bytes]:
        """The status and body of one flag's answer."""
        flag = snapshot.flags.get(key)
        answer = missing(snapshot.flag_set, key) if flag is None else flag.evaluate(context, int(self._clock()))
        self._seen(snapshot, answer)
        return encoded_answer(answer, echo)

    async def evaluate_all(
        self, snapshot: Snapshot, context: Mapping[str, Any], *, echo: Echo | None, now: int
    ) -> bytes:
        """The body of a bulk evaluation."""
        parts: list[bytes] = []
        for place, key in enumerate(flag_keys(snapshot), start=1):
            answer = snapshot.flags[key].evaluate(context, now)
            self._seen(snapshot, answer)
            parts.append(encoded_answer(answer, echo)[1])
            if place % PACE_FLAGS == 0:
                await asyncio.sleep(0)
        return bulk_head() + b",".join(parts) + bulk_tail(snapshot, echo)

    def tag(self, snapshot: Snapshot, context: Mapping[str, Any], *, echo: Echo | None, now: int) -> bytes:
        """The entity tag of a bulk evaluation's body, found without evaluating any flag but those with a clock."""
        answers = (snapshot.flags[key].evaluate(context, now) for key in _clocked(snapshot))
        return answer_tag(snapshot, echo, context=context, by_clock=(encoded_answer(each, echo)[1] for each in answers))

    def now(self) -> int:
        """Whole seconds since 1970."""
        return int(self._clock())


class SingleEvaluation:
    """POST /ofrep/v1/evaluate/flags/{key}."""

    def __init__(self, ofrep: Ofrep) -> None:
        self._ofrep = ofrep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = headers_of(scope)
        key: str = scope["path_params"]["key"]
        try:
            context = await self._ofrep.read(headers, receive)
            snapshot, echo = self._ofrep.choose(headers)
            reply = Reply(*self._ofrep.evaluate(snapshot, key, context=context, echo=echo))
        except (Refused, FlagstaffError) as error:
            reply = refusal(error, key=key)
        await reply.send(send)


class BulkEvaluation:
    """POST /ofrep/v1/evaluate/flags."""

    def __init__(self, ofrep: Ofrep) -> None:
        self._ofrep = ofrep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            reply = await self._answer(headers_of(scope), receive, told=_told_revision(scope))
        except (Refused, FlagstaffError) as error:
            reply = refusal(error, key=None)
        await reply.send(send)

    async def _answer(self, headers: Headers, receive: Receive, *, told: int) -> Reply:
        ofrep = self._ofrep
        context = await ofrep.read(headers, receive)
        snapshot, echo = await self._caught_up(headers, told)
        now = ofrep.now()
        tag = ofrep.tag(snapshot, context, echo=echo, now=now)
        tag_line: HeaderLines = ((b"etag", tag),)
        if is_held(tag, headers.get(b"if-none-match")):
            return Reply(304, headers=tag_line)
        return Reply(200, await ofrep.evaluate_all(snapshot, context, echo=echo, now=now), tag_line)

    async def _caught_up(self, headers: Headers, told: int) -> tuple[Snapshot, Echo | None]:
        """The chosen flag set, after a short wait when the client knows of a later revision than this process."""
        snapshot, echo = self._ofrep.choose(headers)
        for _ in range(int(CATCH_UP_S / CATCH_UP_LOOK_S)):
            if snapshot.revision >= told:
                break
            await asyncio.sleep(CATCH_UP_LOOK_S)
            snapshot, echo = self._ofrep.choose(headers)
        return snapshot, echo


def refusal(error: Refused | FlagstaffError, *, key: str | None) -> Reply:
    """The answer to a request that was not evaluated; `key` is None for a bulk evaluation."""
    match error:
        case Refused():
            return failed(error.status, error.details, headers=CLOSE if error.status in _NO_BODY_LEFT else ())
        case StoreUnavailable():
            return try_later(str(error))
        case NotFound() if key is not None:
            return Reply(404, failure_body(key, ErrorCode.FLAG_NOT_FOUND, str(error)))
        case BadContext():
            return Reply(400, failure_body(key, ErrorCode.INVALID_CONTEXT, str(error)))
        case _:
            return Reply(400, failure_body(key, ErrorCode.GENERAL, str(error)))


def _told_revision(scope: Scope) -> int:
    """The revision in `flagConfigEtag`, which a client sends that asks because of an event; 0 without."""
    if b"flagConfigEtag" not in scope["query_string"]:
        return 0
    found = parse_qs(scope["query_string"].decode("latin-1")).get("flagConfigEtag", [""])
    return revision_of(found[0])


def _clocked(snapshot: Snapshot) -> tuple[str, ...]:
    known: tuple[str, ...] | None = snapshot.wire.get("web.clocked")
    if known is None:
        found = (key for key in flag_keys(snapshot) if snapshot.flags[key].clock is not None)
        known = snapshot.wire["web.clocked"] = tuple(found)
    return known
