"""Read the audit trail: pages, exports, signed heads, and whether anybody touched it."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine

from server.core.audit import SERVER_TRAIL, AuditEntry
from server.core.descriptions.differences import Difference, describe_documents
from server.core.errors import InvalidRequest, Limited, NotFound
from server.core.json import Json
from server.core.trails import Verified
from server.operations.heads import SignedHead, check_head, public_key, sign_head
from server.store.audit import (
    EntryFilter,
    count_strays,
    entries_after,
    find_entries,
    last_sequence,
    list_trails,
    read_head,
    verify_trail,
)
from server.store.engine import reading
from server.store.mapping import parse

PAUSE_S: Final = 0.001
"""Enough for evaluations of the same process to get their turn."""

VERIFY_AGAIN_S: Final = 5.0
EXPORT_ENTRIES: Final = 500
WANT_ALL: Final = EntryFilter()


@dataclass(frozen=True, slots=True)
class Checked:
    """What a verification of several trails found."""

    trails: tuple[Verified, ...]
    stray_count: int = 0
    """Rows that are in no trail; 0 where not all trails were verified."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.stray_count and all(trail.whole for trail in self.trails)


@dataclass(frozen=True, slots=True)
class Audit:
    """The trails of one database."""

    engine: Engine
    secret: Callable[[], bytes]
    """Gives the server's secret key."""

    pause_s: float = PAUSE_S
    """Let into a verification after each portion of some milliseconds."""

    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def page(
        self, project: str, wanted: EntryFilter, *, before_sequence: int | None, limit: int
    ) -> tuple[list[AuditEntry], int | None]:
        """The newest entries that fit, and where the next page begins; None: there is none.

        Errors: NotFound when there is neither such a project nor a trail of it; StoreUnavailable.
        """
        with reading(self.engine) as connection:
            found = find_entries(connection, project, wanted, before_sequence=before_sequence, limit=limit)
            self._check_known(found[0], project)
            return found

    def behind(
        self, project: str, wanted: EntryFilter, *, sequence: int, limit: int = EXPORT_ENTRIES
    ) -> tuple[list[AuditEntry], int]:
        """The oldest entries behind one, and up to where everything that fits is among them. Errors: as `page`."""
        with reading(self.engine) as connection:
            return entries_after(connection, project, wanted, sequence=sequence, limit=limit)

    def last(self, project: str) -> int:
        """The last sequence number. Errors: NotFound, StoreUnavailable."""
        with reading(self.engine) as connection:
            last = last_sequence(connection, project)
        if not last:
            self._check_known((), project)
        return last

    def head(self, project: str, *, now: datetime) -> SignedHead:
        """What the trail ends with, signed. Errors: NotFound; InvalidRequest when there is no usable secret."""
        with reading(self.engine) as connection:
            found = read_head(connection, project)
        self._check_known((found,) if found.sequence else (), project)
        return sign_head(project, found, secret=self.secret(), now=now)

    def trails(self) -> list[str]:
        """Every trail there is."""
        with reading(self.engine) as connection:
            return list_trails(connection)

    def verify(
        self,
        project: str | None,
        *,
        heads: Sequence[SignedHead] = (),
        signer: bytes = b"",
    ) -> Checked:
        """Verify one trail, or all of them and that no row is beside them, also against heads.

        Errors: Refused when a head is not by the signer (this server, unless a public key is given); InvalidRequest
        for heads of trails that are not verified; Limited while another verification runs; StoreUnavailable.
        """
        if not self._one_at_a_time.acquire(blocking=False):
            raise Limited("an audit trail is being verified already; one at a time", VERIFY_AGAIN_S)
        try:
            return self._verify(project, heads, signer)
        finally:
            self._one_at_a_time.release()

    def _verify(self, project: str | None, heads: Sequence[SignedHead], signer: bytes) -> Checked:
        trails = self.trails()
        if project is not None:
            self._check_known([each for each in trails if each == project], project)
            trails = [project]
        trusted = signer or (public_key(self.secret()) if heads else b"")
        for head in heads:
            check_head(head, signer=trusted)
        # A trail of which no row is left is one that a head tells of.
        trails = trails if project is not None else sorted({*trails, *(head.project for head in heads)}, key=str)
        others = sorted({head.project or "the server" for head in heads if head.project not in trails})
        if others:
            raise InvalidRequest(f"there are heads of {', '.join(others)}, which is not verified; leave them out")
        found = tuple(
            verify_trail(
                self.engine,
                each,
                marks=[head.mark() for head in heads if head.project == each],
                between=lambda: time.sleep(self.pause_s) if self.pause_s else None,
            )
            for each in trails
        )
        if project is not None:
            return Checked(found)
        with reading(self.engine) as connection:
            return Checked(found, count_strays(connection, found))

    def _check_known(self, found: Iterable[Any], project: str) -> None:
        if not any(True for _ in found) and project != SERVER_TRAIL and project not in self.trails():
            raise NotFound(f"project {project!r} does not exist, and never did: there is no trail of it")


def differences_of(entry: AuditEntry) -> tuple[Difference, ...]:
    """What an entry's change changed, whatever it is about."""
    return describe_documents(entry.subject_kind, _document(entry.before), _document(entry.after))


def _document(text: str | None) -> Json:
    if text is None:
        return None
    document = parse(text)
    # A damaged one is shown as the text that it is.
    return text if document is None else document
