"""Gather every service into the one table that doors carry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from server.core.context import Enrichment
from server.live.holder import Holder
from server.live.recent import RecentContexts
from server.live.watch import Hub
from server.operations.counts import SeenBy, seen_by_nobody
from server.rpc.drain import Drain
from server.rpc.enrichment import enriched
from server.rpc.evaluation import evaluation_table
from server.rpc.flagd_evaluation import flagd_evaluation_table
from server.rpc.flagd_events import flagd_events_table
from server.rpc.flagd_sync import flagd_sync_table
from server.rpc.health import SERVICE as HEALTH_SERVICE
from server.rpc.health import Health
from server.rpc.recording import recorded
from server.rpc.reflection import reflection_table
from server.rpc.streams import NO_AGE, StreamAge, ending, lasting
from server.rpc.table import Table, merge, services
from server.rpc.watch import watch_table

NO_ENRICHMENT: Final = Enrichment()
NO_MANAGEMENT: Final[Table] = {}


@dataclass(frozen=True, slots=True)
class Services:
    """All that a door needs, and what the application tells it through."""

    table: Table
    health: Health
    """Call `refresh` after flags were loaded."""

    drain: Drain


def make_services(  # noqa: PLR0913  (each is one thing that a server is told)
    holder: Holder,
    hub: Hub,
    *,
    clock: Callable[[], float],
    reflection: bool = True,
    enrichment: Enrichment = NO_ENRICHMENT,
    seen_by: SeenBy = seen_by_nobody,
    sync_metadata: bool = True,
    stream_age: StreamAge = NO_AGE,
    management: Table = NO_MANAGEMENT,
    recent: RecentContexts | None = None,
) -> Services:
    """Build the table over what `holder` serves, beside `management` as server/rpc/managed.py makes it.

    `recent` is given contexts that are evaluated; None where none are to be kept.

    Units: clock gives seconds since 1970, UTC.

    Errors: InvalidRequest when the enrichment is too large for sync.
    """
    drain: Final = Drain()
    drain.when_ending(hub.close)
    seen = seen_by("flagstaff")
    own = evaluation_table(holder, clock=clock, drain=drain, seen=seen)
    flagd = flagd_evaluation_table(holder, clock=clock, seen_by=seen_by)
    streams = merge(watch_table(holder, hub, clock=clock, seen=seen), flagd_events_table(holder, hub))
    evaluation = enriched(recorded(merge(own, flagd, streams), holder, recent), enrichment)
    sync = flagd_sync_table(holder, hub, static_context=enrichment.static, metadata=sync_metadata)
    answering = merge(lasting(merge(evaluation, sync), stream_age), ending(management, drain))
    health = Health((*services(answering), HEALTH_SERVICE), lambda: holder.ready, drain=drain)
    table = merge(answering, health.table())
    if reflection:
        table = merge(table, reflection_table(services(table)))
    return Services(table, health, drain)
