"""Look at deliveries, and send them again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from server.core.access import Action, Principal
from server.core.errors import InvalidRequest, NotFound, Refused
from server.operations.hooks.managing import Hooks, HookWritten
from server.operations.hooks.scopes import may_with
from server.operations.writes import Outcome, Write
from server.store.engine import database_now, reading, writing
from webhooks import finished, limits, looking, subscribed
from webhooks.looking import Delivery, Place
from webhooks.states import DEAD, EndpointState, Status

PORTIONS_PER_CALL: Final = 20
"""Of ROWS_PER_SWEEP_MAX deliveries each, in a transaction each; further ones take another call."""

FINISHED: Final = (Status.DELIVERED, *DEAD)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries are meant; what is empty or None asks for nothing."""

    statuses: tuple[Status, ...] = ()
    ids: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    """Whole names."""

    since: datetime | None = None
    until: datetime | None = None


EVERYTHING: Final = Selection()


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a replay came."""

    count: int
    finished_by: datetime | None
    """What was finished by then, and was not replayed yet, is left for another call; None when nothing is left."""

    outcome: Outcome


def list_deliveries(
    hooks: Hooks,
    project: str,
    selection: Selection,
    principal: Principal,
    *,
    id: str = "",
    after: Place | None = None,
    limit: int,
) -> Sequence[Delivery]:
    """Deliveries of a hook, or of all of a project that the caller may read. Errors: NotFound."""
    if id:
        hooks.read(project, id, principal)
        ids: Collection[str] = [id]
    else:
        ids = [each.id for each in hooks.readable(project, principal)]
    chosen = _chosen(ids, selection)
    with reading(hooks.engine) as connection:
        return looking.list_deliveries(connection, chosen, after=after, limit=limit)


def read_delivery(hooks: Hooks, project: str, id: str, principal: Principal) -> Delivery:
    """One delivery with its attempts. Errors: NotFound, also where the caller may not read its hook."""
    with reading(hooks.engine) as connection:
        found = looking.find_delivery(connection, id)
        endpoint = None if found is None else subscribed.find_endpoint(connection, found.endpoint_id)
    if found is None or endpoint is None or (project and found.project != project):
        raise _missing(id)
    if not may_with(principal, Action.READ, found.project, endpoint.filter):
        raise _missing(id)
    return found


def replay(
    hooks: Hooks, project: str, id: str, selection: Selection, write: Write, *, finished_by: datetime | None = None
) -> Replayed:
    """Send finished deliveries of a hook again, as many as one call may; with `finished_by` it goes on.

    Each portion is a transaction: whatever stops it, what was replayed is not replayed twice by going on.
    Errors: NotFound; PermissionDenied; Refused while the hook is not enabled; InvalidRequest for a status that is none
    of finished deliveries.
    """
    endpoint = hooks.mine(project, id, write)
    if endpoint.state is not EndpointState.ENABLED:
        raise Refused(f"hook {id} is {endpoint.state}; `flagstaff hook enable {id}` replays all that it missed")
    unfinished = [each for each in selection.statuses if each not in FINISHED]
    if unfinished:
        raise InvalidRequest(f"deliveries that are {unfinished[0]} are sent anyway; what is finished can be replayed")
    wanted = finished.Wanted(
        id,
        selection.statuses or DEAD,
        selection.ids or None,
        selection.event_types or None,
        selection.since,
        selection.until,
    )
    with reading(hooks.engine) as connection:
        finished_by = finished_by or database_now(connection)
    if write.dry_run:
        chosen = replace(_chosen([id], selection), statuses=wanted.statuses)
        with reading(hooks.engine) as connection:
            return Replayed(looking.count_deliveries(connection, chosen), None, Outcome.WOULD_APPLY)
    count = 0
    for _ in range(PORTIONS_PER_CALL):
        with writing(hooks.engine, about=f"hook/{id}") as connection:
            now = database_now(connection)
            most = limits.ROWS_PER_SWEEP_MAX
            portion = finished.replay(connection, wanted, finished_by=finished_by, now=now, limit=most)
        count += portion
        if not portion:
            hooks.wake()
            return Replayed(count, None, Outcome.APPLIED if count else Outcome.UNCHANGED)
    hooks.wake()
    return Replayed(count, finished_by, Outcome.APPLIED)


def enable_and_replay(
    hooks: Hooks, project: str, id: str, write: Write, *, skips: bool
) -> tuple[HookWritten, Replayed]:
    """Deliver to a hook again, and send what it missed, unless that is skipped. Errors: as both."""
    written = hooks.enable(project, id, write)
    if skips or write.dry_run:
        return written, Replayed(0, None, Outcome.UNCHANGED)
    # Whoever sends the same request again, because the answer was lost, goes on with what was missed.
    return written, replay(hooks, project, id, EVERYTHING, replace(write, expected_version=None))


def _chosen(ids: Collection[str], selection: Selection) -> looking.Chosen:
    return looking.Chosen(
        ids, selection.statuses, selection.ids, selection.event_types, selection.since, selection.until
    )


def _missing(id: str) -> NotFound:
    return NotFound(f"delivery {id[:80]!r} does not exist, or is forgotten")
