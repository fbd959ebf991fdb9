"""Serve flagstaff.v1.AuditService: the trail in pages, as a stream, as an export, and its verification."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from google.protobuf.message import Message

from protos.flagstaff.v1 import audit_pb2 as messages
from server.core.access import Principal
from server.core.audit import AuditEntry
from server.core.errors import InvalidRequest, Stale, StoreCorrupt
from server.core.methods import action_of
from server.core.trails import BreakKind, Verified
from server.live.trails import Trails
from server.operations.audit import Audit, differences_of
from server.operations.exports import entry_line, head_line
from server.operations.heads import SignedHead
from server.operations.writes import require
from server.rpc.call import Call
from server.rpc.differences import difference_message
from server.rpc.management import Management, Read, parse, scope_of
from server.rpc.paging import read_number, size_of
from server.rpc.table import Table, merge, server_stream
from server.rpc.timestamps import instant, timestamp
from server.store.audit import EntryFilter

SERVICE: Final = "flagstaff.v1.AuditService"
WATCH: Final = f"/{SERVICE}/WatchAuditEntries"
EXPORT: Final = f"/{SERVICE}/ExportAuditEntries"
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024
"""A page ends where its entries take this: clients take 4 MiB, and one entry may be long."""

CHUNK_BYTES_MAX: Final = 256 * 1024
ALIVE_S: Final = 20.0
"""A sign of life after so much silence."""

_KINDS: Final = {each: messages.AuditBreak.Kind.Value(f"KIND_{each.name}") for each in BreakKind}
_EXACT: Final = ("actor", "action", "subject_kind", "subject_key", "cause", "request_id")


def audit_table(management: Management, audit: Audit, *, alive_s: float = ALIVE_S) -> Table:
    """The service's handlers."""
    service = AuditService(management.clock, audit)
    streams = _Streams(management, audit, alive_s)
    return merge(
        management.reads(SERVICE, service.methods()),
        {WATCH: server_stream(streams.watch), EXPORT: server_stream(streams.export)},
    )


class AuditService:
    """The methods with one answer, also for a command that has the database itself. Errors: as operations/audit.py."""

    def __init__(self, clock: Callable[[], datetime], audit: Audit) -> None:
        self._clock, self._audit = clock, audit

    def methods(self) -> Mapping[str, tuple[type[Message], Read]]:
        """Name -> its request, and what answers it."""
        return {
            "ListAuditEntries": (messages.ListAuditEntriesRequest, self.page),
            "ListAuditTrails": (messages.ListAuditTrailsRequest, self.trails),
            "GetAuditHead": (messages.GetAuditHeadRequest, self.head),
            "VerifyAuditTrail": (messages.VerifyAuditTrailRequest, self.verify),
        }

    def trails(self, _request: Any, _principal: Principal) -> messages.ListAuditTrailsResponse:
        """Name every trail there is."""
        return messages.ListAuditTrailsResponse(projects=self._audit.trails())

    def page(self, request: Any, _principal: Principal) -> messages.ListAuditEntriesResponse:
        """Show the newest entries, or those behind a page."""
        entries, further = self._audit.page(
            request.project,
            _filter(request),
            before_sequence=read_number(request.page_token),
            limit=size_of(request),
        )
        reply = messages.ListAuditEntriesResponse()
        size = 0
        for entry in entries:
            message = entry_message(entry, full=request.view == messages.AUDIT_VIEW_FULL)
            size += message.ByteSize()
            if reply.entries and size > PAGE_BYTES_MAX:
                further = reply.entries[-1].sequence
                break
            reply.entries.append(message)
        reply.next_page_token = "" if further is None else str(further)
        return reply

    def head(self, request: Any, _principal: Principal) -> messages.GetAuditHeadResponse:
        """Sign what a trail ends with."""
        head = self._audit.head(request.project, now=self._clock())
        return messages.GetAuditHeadResponse(head=head_message(head))

    def verify(self, request: Any, _principal: Principal) -> messages.VerifyAuditTrailResponse:
        """Say what was done to trails."""
        if request.every_trail and request.project:
            raise InvalidRequest("every_trail is set beside a project; ask for one or the other")
        project = None if request.every_trail else request.project
        heads = [head_of(each) for each in request.heads]
        checked = self._audit.verify(project, heads=heads, signer=request.public_key)
        return messages.VerifyAuditTrailResponse(
            trails=[trail_message(each) for each in checked.trails], stray_count=checked.stray_count
        )


class _Streams:
    def __init__(self, management: Management, audit: Audit, alive_s: float) -> None:
        self._management, self._audit, self._alive_s = management, audit, alive_s
        self._trails = Trails(self._last_sequences)

    async def watch(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        request: Any = self._read(messages.WatchAuditEntriesRequest, WATCH, raw, call)
        wanted, full = _filter(request), request.view == messages.AUDIT_VIEW_FULL
        last = await self._management.run(lambda: self._audit.last(request.project))
        sequence = last if request.after_sequence < 0 else request.after_sequence
        # The first message says where the watch begins, so that nothing is missed when it breaks before an entry.
        yield messages.WatchAuditEntriesResponse(sequence=sequence).SerializeToString()
        while True:
            entries, looked = await self._behind(request.project, wanted, sequence)
            for message in await self._management.run(partial(_entry_messages, entries, full)):
                sequence = message.sequence
                yield messages.WatchAuditEntriesResponse(entry=message, sequence=sequence).SerializeToString()
            if looked > sequence:
                sequence = looked
            elif not entries and await self._trails.wait(request.project, sequence, timeout_s=self._alive_s):
                continue
            yield messages.WatchAuditEntriesResponse(sequence=sequence).SerializeToString()

    async def export(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        request: Any = self._read(messages.ExportAuditEntriesRequest, EXPORT, raw, call)
        wanted = _filter(request)
        # Signed first: what is committed meanwhile is not in this export.
        head = await self._management.run(lambda: self._audit.head(request.project, now=self._management.clock()))
        sequence, size = max(0, request.after_sequence), 0
        lines: list[bytes] = []
        while sequence < head.sequence:
            entries, sequence = await self._behind(request.project, wanted, sequence)
            for entry in entries:
                if entry.sequence > head.sequence:
                    break
                lines.append(entry_line(entry))
                size += len(lines[-1])
                if size > CHUNK_BYTES_MAX:
                    yield messages.ExportAuditEntriesResponse(lines=b"".join(lines)).SerializeToString()
                    lines, size = [], 0
        lines.append(head_line(head))
        last = messages.ExportAuditEntriesResponse(lines=b"".join(lines), head=head_message(head))
        yield last.SerializeToString()

    async def _behind(self, project: str, wanted: EntryFilter, sequence: int) -> tuple[list[AuditEntry], int]:
        entries, looked = await self._management.run(lambda: self._audit.behind(project, wanted, sequence=sequence))
        if looked < sequence:
            raise Stale(
                f"the trail ends with entry {looked}, and {sequence} was asked for: the database was put back; "
                f"begin anew behind entry {looked} or an earlier one"
            )
        if wanted == EntryFilter():
            for expected, entry in enumerate(entries, start=sequence + 1):
                if entry.sequence != expected:
                    raise StoreCorrupt(
                        f"entry {expected} of the audit trail is missing, entry {entry.sequence} follows; "
                        "`flagstaff audit verify` says more"
                    )
        return entries, looked

    def _read(self, kind: Any, path: str, raw: bytes, call: Call) -> Any:
        request = parse(kind, raw)
        require(call.principal, action_of(path), scope_of(request))
        return request

    async def _last_sequences(self, projects: frozenset[str]) -> Mapping[str, int]:
        return await self._management.run(lambda: {project: self._audit.last(project) for project in projects})


def entry_message(entry: AuditEntry, *, full: bool) -> messages.AuditEntry:
    """An entry as clients get it."""
    return messages.AuditEntry(
        project=entry.project,
        environment=entry.environment,
        sequence=entry.sequence,
        revision=entry.revision,
        actor=entry.actor,
        action=entry.action,
        subject_kind=entry.subject_kind,
        subject_key=entry.subject_key,
        reason=entry.reason,
        cause=entry.cause,
        request_id=entry.request_id,
        at=timestamp(entry.at),
        previous_hash=entry.previous_hash,
        hash=entry.hash,
        differences=[difference_message(each, full=full) for each in differences_of(entry)],
        before=entry.before if full else None,
        after=entry.after if full else None,
    )


def _entry_messages(entries: Sequence[AuditEntry], full: bool) -> list[messages.AuditEntry]:
    return [entry_message(entry, full=full) for entry in entries]


def head_message(head: SignedHead) -> messages.SignedAuditHead:
    """A head as clients get it."""
    return messages.SignedAuditHead(
        project=head.project,
        sequence=head.sequence,
        hash=head.hash,
        at=timestamp(head.at),
        public_key=head.public_key,
        signature=head.signature,
    )


def head_of(message: Any) -> SignedHead:
    """A head as a client sent it."""
    return SignedHead(
        message.project,
        message.sequence,
        message.hash,
        instant(message.at, "heads.at"),
        message.public_key,
        message.signature,
    )


def trail_message(trail: Verified) -> messages.AuditTrail:
    """What was found in a trail, as clients get it."""
    return messages.AuditTrail(
        project=trail.project,
        entry_count=trail.entry_count,
        breaks=[
            messages.AuditBreak(sequence=each.sequence, kind=_KINDS[each.kind], text=each.text) for each in trail.breaks
        ],
        unnamed_count=trail.unnamed_count,
        sequence=trail.last_sequence,
        hash=trail.last_hash,
    )


def _filter(request: Any) -> EntryFilter:
    given = request.filter
    return EntryFilter(
        environment=request.environment or None,
        **{name: getattr(given, name) or None for name in _EXACT},
        since=instant(given.since, "filter.since") if given.HasField("since") else None,
        until=instant(given.until, "filter.until") if given.HasField("until") else None,
        text=given.text,
    )
