"""Try a hook: send it a ping through the queue like any event, and tell what came back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from server.core.errors import InvalidRequest, Refused
from server.operations.deliveries.fanning import PING
from server.operations.hooks.managing import Hooks
from server.operations.hooks.telling import KIND
from server.operations.writes import Outcome, Write
from server.store import tables
from server.store.announce import Announcement, announce
from server.store.engine import reading, writing
from server.store.mapping import compact
from server.store.outbox import last_event
from webhooks.looking import Delivery, find_delivery_of
from webhooks.states import EndpointState, Status
from webhooks.states import Outcome as Tried
from webhooks.subscribed import Endpoint

MESSAGE: Final = "Hello from Flagstaff."
MESSAGE_CHARS_MAX: Final = 500
WAIT_S: Final = 20.0
WAIT_S_MAX: Final = 60.0
LOOK_S: Final = 0.1
"""Between two looks for an answer."""

WAITING_MAX: Final = 32
"""Tests that wait at once in one process; further ones are told to look for themselves."""

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs what waits for the database beside the loop."""


@dataclass(frozen=True, slots=True)
class Pinged:
    """A ping, and how far it came."""

    event_id: str
    outcome: Outcome
    delivery: Delivery | None
    said: str


class Trials:
    """Sends pings to the hooks of one database, and waits for what comes back."""

    def __init__(self, hooks: Hooks, run: Run) -> None:
        self._hooks, self._run = hooks, run
        self._waiting = 0

    async def test(self, project: str, id: str, write: Write, *, message: str = "", wait_s: float = WAIT_S) -> Pinged:
        """Send a ping and wait until it was tried once, or for so long.

        Errors: NotFound; PermissionDenied; Stale; Refused while the hook is not enabled; InvalidRequest.
        """
        if not 0 <= wait_s <= WAIT_S_MAX:
            raise InvalidRequest(f"wait is {wait_s:g} s, expected 0 to {WAIT_S_MAX:g}")
        if len(message) > MESSAGE_CHARS_MAX:
            raise InvalidRequest(f"message has {len(message)} characters, at most {MESSAGE_CHARS_MAX} are allowed")
        endpoint, event_id = await self._run(lambda: _ping(self._hooks, project, id, message or MESSAGE, write))
        if write.dry_run:
            return Pinged("", Outcome.WOULD_APPLY, None, f"a ping would be sent to {endpoint.url_shown}")
        self._hooks.wake()
        delivery = await self._awaited(event_id, id, wait_s)
        return Pinged(event_id, Outcome.APPLIED, delivery, said_of(delivery, endpoint))

    async def _awaited(self, event_id: str, id: str, wait_s: float) -> Delivery | None:
        if self._waiting >= WAITING_MAX:
            wait_s = 0.0
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            until = loop.time() + wait_s
            while True:
                delivery: Delivery | None = await self._run(lambda: self._find(event_id, id))
                if _is_answered(delivery) or loop.time() >= until:
                    return delivery
                await asyncio.sleep(LOOK_S)
        finally:
            self._waiting -= 1

    def _find(self, event_id: str, id: str) -> Delivery | None:
        with reading(self._hooks.engine) as connection:
            return find_delivery_of(connection, event_id, id)


def said_of(delivery: Delivery | None, endpoint: Endpoint) -> str:
    """What came back, as a sentence."""
    place = endpoint.url_shown
    if delivery is None:
        return f"the ping to {place} waits to be sent; look for it among the hook's deliveries"
    tried = [each for each in delivery.attempts if each.outcome is not Tried.SENDING]
    if delivery.status is Status.DELIVERED and tried:
        return f"{place} answered {tried[-1].status_code}"
    if tried and tried[-1].error:
        return f"{place} did not take it: {tried[-1].error}"
    if delivery.status is Status.MISSED:
        return f"{place} is not sent anything: the hook was disabled meanwhile"
    rests = (
        " and is left alone for a while, because it failed again and again"
        if endpoint.breaker_state != "closed"
        else ""
    )
    return f"{place} has not answered yet{rests}"


def _is_answered(delivery: Delivery | None) -> bool:
    if delivery is None:
        return False
    return delivery.due_at is None or any(each.outcome is not Tried.SENDING for each in delivery.attempts)


def _ping(hooks: Hooks, project: str, id: str, message: str, write: Write) -> tuple[Endpoint, str]:
    endpoint = hooks.mine(project, id, write)
    if endpoint.state is not EndpointState.ENABLED:
        raise Refused(f"hook {id} is {endpoint.state}; enable it first: `flagstaff hook enable {id}`")
    if write.dry_run:
        return endpoint, ""
    payload = {
        "project": project,
        "kind": KIND,
        "key": id,
        "endpoint_id": id,
        "message": message,
        "actor": write.principal.actor,
        "reason": write.reason,
        "cause": write.cause,
    }
    with writing(hooks.engine, about=f"project/{project}") as connection:
        announce(connection, project, announcements=[Announcement("", PING, compact(payload), write.now)])
        return endpoint, _last_id(connection, project)


def _last_id(connection: Connection, project: str) -> str:
    columns = tables.outbox.c
    mine = (columns.project == project) & (columns.sequence == last_event(connection, project))
    found: str = connection.execute(select(columns.id).where(mine)).scalar_one()
    return found
