"""Look at releases: one with its log, many at a time, one as it goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from server.core.access import Action, Principal, Scope, allowing
from server.core.errors import NotFound, PermissionDenied, Refused
from server.core.json import Json
from server.core.releases.codec import replay
from server.operations.releases.going import definitions_of
from server.operations.writes import require, require_within
from server.store.audit import last_sequence
from server.store.engine import reading
from server.store.releases import StoredEvent, StoredRelease, Wanted, list_releases, read_events, read_release


@dataclass(frozen=True, slots=True)
class Detail:
    """A release with all that came to it."""

    stored: StoredRelease
    events: Sequence[StoredEvent]
    log_agrees: bool
    """Whether everything was decided again from the events as they are kept, and came out the same."""


@dataclass(frozen=True, slots=True)
class Looking:
    """What is read of the releases of one database. Errors: NotFound; PermissionDenied."""

    engine: Engine

    def read(
        self, principal: Principal, *, project: str, id: str, behind: int = 0
    ) -> tuple[StoredRelease, list[StoredEvent]]:
        """A release, and what came to it behind a number."""
        with reading(self.engine) as connection:
            stored = self._readable(connection, principal, project, id)
            return stored, read_events(connection, project=project, id=id, behind=behind)

    def detail(self, principal: Principal, *, project: str, id: str) -> Detail:
        """A release with its whole log, decided again."""
        stored, events = self.read(principal, project=project, id=id)
        return Detail(stored, events, agrees(stored, events))

    def page(
        self, principal: Principal, *, project: str, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
    ) -> list[StoredRelease]:
        """Those that the principal may read, the newest first."""
        if wanted.environment:
            require(principal, Action.READ, Scope(project, wanted.environment))
        else:
            require_within(principal, Action.READ, project)
        found: list[StoredRelease] = []
        with reading(self.engine) as connection:
            while True:
                page = list_releases(connection, project=project, wanted=wanted, after=after, limit=limit)
                found += [each for each in page if _may_read(principal, each)]
                if len(page) < limit or len(found) >= limit:
                    return found[:limit]
                after = page[-1].created_at, page[-1].id

    def last(self, project: str) -> int:
        """The last sequence number of a project's audit trail: it grows with all that happens to a release."""
        with reading(self.engine) as connection:
            return last_sequence(connection, project)

    def variant_value(self, project: str, environment: str, flag: str, variant: str) -> Json:
        """What a variant of a flag is. Errors: NotFound, naming those that there are."""
        with reading(self.engine) as connection:
            found = definitions_of(connection, project, [(environment, flag)]).get((environment, flag))
        if found is None:
            raise NotFound(f"flag {flag!r} is not in '{project}/{environment}'")
        if variant not in found.flag.variants:
            known = ", ".join(found.flag.variants)
            raise NotFound(f"variant {variant!r} is not in flag {flag!r}; it has: {known}")
        return found.flag.variants[variant]

    def _readable(self, connection: Connection, principal: Principal, project: str, id: str) -> StoredRelease:
        stored = read_release(connection, project=project, id=id)
        if not _may_read(principal, stored):
            places = ", ".join(f"{project}/{each}" for each in stored.release.plan.environments())
            roles = " or ".join(f"`{role}`" for role in allowing(Action.READ))
            raise PermissionDenied(f"{principal.actor} may not read {places}; it needs the role {roles} there")
        return stored


def agrees(stored: StoredRelease, events: Sequence[StoredEvent]) -> bool:
    """Whether events, put in again, give each decision that is kept, and the release as it is."""
    if not events or events[0].release is None:
        return False
    came = [(each.event, each.at) for each in events[1:] if each.event is not None]
    try:
        outcomes = replay(events[0].release, came)
    except Refused:
        return False
    decided = [(each.told, each.move) for each in outcomes]
    last = outcomes[-1].release if outcomes else events[0].release
    return decided == [(each.told, each.move) for each in events[1:]] and last == stored.release


def _may_read(principal: Principal, stored: StoredRelease) -> bool:
    return all(principal.may(Action.READ, Scope(stored.project, each)) for each in stored.release.plan.environments())
