"""Make deliveries of committed events, and events of what became of deliveries."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, select

from server.operations.feed import tellable
from server.store import failpoints
from server.store.announce import Announcement, announce
from server.store.engine import database_now, reading, writing
from server.store.flags import flag_owners
from server.store.mapping import compact
from server.store.occurrences import Occurrence, note
from server.store.outbox import StoredEvent, next_events
from server.store.projects import last_sequences
from webhooks import envelope
from webhooks.endpoints import Notice
from webhooks.errors import WebhookError
from webhooks.filters import Compiled, compile_filter, read_filter
from webhooks.notices import announce_waiting, waiting_projects
from webhooks.outbox import Announced, fan_out, projects_behind
from webhooks.tables import endpoints

PING: Final = "system.ping"
ABOUT_DELIVERIES: Final = "webhook."
"""Types that tell of an endpoint; it does not get them itself, or one that fails would go on failing about that."""

EXHAUSTED: Final = "webhook.delivery_exhausted"
ACTOR: Final = "deliveries"

log = logging.getLogger("flagstaff.deliveries")


@dataclass(eq=False)
class _Portion:
    """Committed events, as `fan_out` asks for them, and what filters look at."""

    events: dict[str, StoredEvent] = field(default_factory=dict)
    envelopes: dict[str, dict[str, Any]] = field(default_factory=dict)
    owned: Mapping[str, tuple[Sequence[str], str]] = field(default_factory=dict)
    """Flag -> its tags, and whose it is."""

    def events_after(self, connection: Connection, project: str, sequence: int, *, limit: int) -> Sequence[Announced]:
        found = next_events(connection, project, sequence, limit=limit)
        self.events = {each.id: each for each in found}
        about = {each.id: flag_of(each) for each in found}
        self.owned = flag_owners(connection, project, {flag for flag in about.values() if flag})
        return [Announced(each.id, each.sequence, each.type, ordering_key(each)) for each in found]

    def owners(self, id_: str) -> tuple[Sequence[str], Sequence[str]]:
        """The tags and the owners of what an event is about: its own, or those that its flag has now."""
        data = self.envelope(id_)["data"]
        tags, owner = self.owned.get(flag_of(self.events[id_]), ((), ""))
        owner = data.get("owner") or owner
        return data.get("tags") or tags, (owner,) if owner else ()

    def envelope(self, id_: str) -> dict[str, Any]:
        """An event as filters see it, made once for all endpoints."""
        if id_ not in self.envelopes:
            self.envelopes[id_] = envelope.envelope(tellable(self.events[id_]))
        return self.envelopes[id_]


class Fanning:
    """One database's events and deliveries; for one thread. Several processes may do this at once."""

    def __init__(self, engine: Engine, now: Callable[[Connection], datetime] = database_now) -> None:
        self._engine, self._now = engine, now
        self._compiled: dict[str, tuple[int, Compiled | None]] = {}
        """Endpoint -> its version, and its filter."""

    def look(self) -> int:
        """Do what is to be done now. Shapes: how many events became deliveries, and notices events.

        Errors: StoreUnavailable, StoreCorrupt; what was not done is done the next time.
        """
        with reading(self._engine) as connection:
            noticed = waiting_projects(connection)
        done = 0
        for project in noticed:
            with writing(self._engine, about=f"project/{project}") as connection:
                done += announce_waiting(connection, project, _announce)
                failpoints.reach("deliveries.told")
        with reading(self._engine) as connection:
            behind = projects_behind(connection, last_sequences(connection))
        for project in behind:
            while count := self._fan_out(project):
                done += count
        return done

    def _fan_out(self, project: str) -> int:
        portion = _Portion()
        with writing(self._engine, about=f"fan-out/{project}", tells=False) as connection:
            filters = self._filters(connection, project)
            count = fan_out(
                connection,
                portion,
                project=project,
                wants=lambda endpoint_id, event: _wants(filters.get(endpoint_id), endpoint_id, event, portion),
                now=self._now(connection),
            )
            failpoints.reach("deliveries.fanned")
        failpoints.reach("deliveries.made")
        return count

    def _filters(self, connection: Connection, project: str) -> Mapping[str, Compiled | None]:
        column = endpoints.c
        query = select(column.id, column.version, column.filter).where(column.project == project)
        found: dict[str, Compiled | None] = {}
        for id_, version, text in connection.execute(query):
            known = self._compiled.get(id_)
            if known is None or known[0] != version:
                known = version, _compiled(id_, text)
                self._compiled[id_] = known
            found[id_] = known[1]
        return found


def ordering_key(event: StoredEvent) -> str:
    """What an event is about, so that an ordered endpoint gets the events of one flag one after another.

    The flag where it is about one, in whatever environment, or else the thing itself.
    """
    flag = flag_of(event)
    if flag:
        return f"flag/{flag}"
    kind, key = event.payload.get("kind", ""), event.payload.get("key", "")
    return f"{kind}/{key}" if kind or key else ""


def flag_of(event: StoredEvent) -> str:
    """The one flag that an event is about; "" for none, or several."""
    payload = event.payload
    if payload.get("kind") == "flag":
        return str(payload.get("key", ""))
    return str(payload.get("flagKey") or payload.get("flag") or payload.get("guarded_flag") or "")


def _compiled(endpoint_id: str, text: str) -> Compiled | None:
    try:
        kept = json.loads(text)
        # A type that this version does not know may be known to a newer one, and takes nothing from the others.
        return compile_filter(read_filter(kept, kept.get("event_types") or ()))
    except (AttributeError, ValueError, WebhookError) as error:
        # It was checked when it was accepted: the row was written by another version, or past the service.
        log.warning("an endpoint gets nothing: its filter", extra={"endpoint": endpoint_id, "error": str(error)})
        return None


def _wants(compiled: Compiled | None, endpoint_id: str, event: Announced, portion: _Portion) -> bool:
    if event.type == PING:
        return portion.events[event.id].payload.get("endpoint_id") == endpoint_id
    if compiled is None or not compiled.wants_type(event.type):
        return False
    if event.type.startswith(ABOUT_DELIVERIES) and portion.events[event.id].payload.get("endpoint_id") == endpoint_id:
        return False
    return compiled.matches(portion.envelope(event.id), *portion.owners(event.id)).wanted


def _announce(connection: Connection, told: list[Notice]) -> None:
    now = database_now(connection)
    for notice in told:
        if notice.type == EXHAUSTED:
            # The delivery's own rows are its trail; a receiver that is down for days would fill everybody's.
            payload = compact({**notice.data, "actor": ACTOR})
            announce(connection, notice.project, announcements=[Announcement("", notice.type, payload, now)])
        else:
            id_ = str(notice.data["endpoint_id"])
            note(connection, Occurrence(notice.project, "hook", id_, notice.type, ACTOR, now, data=notice.data))
