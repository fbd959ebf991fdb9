"""Tell of hooks: in the audit trail, in the feed, and to their owners; never what is secret about one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from server.core.json import Json
from server.operations.writes import Write
from server.store.mapping import compact
from server.store.occurrences import Occurrence, note
from webhooks.endpoints import Notice
from webhooks.subscribed import Endpoint, Opened

KIND: Final = "hook"
"""As the audit trail names its subjects of this kind."""

TEMPLATE_CHARS_TOLD: Final = 2_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A hook as it may be shown."""

    endpoint: Endpoint
    headers: tuple[str, ...] = ()
    """Their names."""

    secrets: tuple[str, ...] = ()
    """Names of its format's secrets."""


def shown(opened: Opened) -> Shown:
    """What may be shown of a hook that was opened."""
    return Shown(opened.endpoint, tuple(opened.subscription.headers), tuple(opened.subscription.secrets))


def note_hook(connection: Connection, what: str, hook: Shown, write: Write, *, before: Shown | None = None) -> None:
    """Keep in the audit trail, and in the feed, what was done. Shapes: what is created, updated or deleted."""
    _note(connection, f"{KIND}.{what}", hook.endpoint, write, described(hook), before)


@dataclass(frozen=True, slots=True)
class Noting:
    """Where the library's notices go that a person caused: they are told as that person's at once."""

    write_: Write
    endpoint: Endpoint

    def write(self, connection: Connection, notice: Notice) -> None:
        """Keep it, with who did it and why."""
        _note(connection, notice.type, self.endpoint, self.write_, dict(notice.data), None)


def described(hook: Shown) -> dict[str, Json]:
    """A hook for the audit trail and for events: flat, and nothing secret."""
    endpoint = hook.endpoint
    return {
        "name": endpoint.name,
        "target_url": endpoint.url_shown,
        "format": endpoint.format,
        "state": endpoint.state.value,
        "source": endpoint.source,
        "expression": endpoint.filter.expression,
        "rate_per_s": None if endpoint.rate is None else endpoint.rate.per_s,
        "concurrency": endpoint.concurrency,
        "ordering": endpoint.ordering.value,
        "timeout_s": endpoint.timeout_s,
        "retry_schedule": ""
        if endpoint.schedule is None
        else " ".join(f"{each:g}" for each in endpoint.schedule.delays_s),
        "settings": compact(endpoint.settings) if endpoint.settings else "",
        "template": endpoint.template[:TEMPLATE_CHARS_TOLD],
        "secret_number": max((each.number for each in endpoint.secrets), default=0),
        "event_types": list(endpoint.filter.event_types),
        "environments": list(endpoint.filter.environments),
        "tags": list(endpoint.filter.tags),
        "owners": list(endpoint.filter.owners),
        "headers": list(hook.headers),
        "format_secrets": list(hook.secrets),
    }


def _note(
    connection: Connection,
    type_: str,
    endpoint: Endpoint,
    write: Write,
    data: Mapping[str, Any],
    before: Shown | None,
) -> None:
    note(
        connection,
        Occurrence(
            project=endpoint.project,
            kind=KIND,
            key=endpoint.id,
            type=type_,
            actor=write.principal.actor,
            at=write.now,
            data=data,
            before=None if before is None else described(before),
            reason=write.reason,
            cause=write.cause,
        ),
    )
