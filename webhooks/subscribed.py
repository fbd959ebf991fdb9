"""Keep subscriptions in rows, with what is secret in them sealed.

Every function works in the caller's transaction. A row can be looked at without any key: what is sealed in it is opened
by `opened`, for the sender alone and for changing it. A secret is sealed with the id of its endpoint and the name of
its column, so it opens in no other place.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, insert, select, update

from webhooks import limits
from webhooks.backoff import Schedule
from webhooks.endpoints import Notice, end
from webhooks.filters import EXPRESSION, LISTS, Filter, filter_json
from webhooks.rates import Rate
from webhooks.redaction import show_url
from webhooks.rotation import Secret, keys_of
from webhooks.sealing import NONCE_BYTES, Sealer
from webhooks.signing import Key
from webhooks.states import EndpointState, Ordering
from webhooks.subscriptions import Subscription
from webhooks.tables import deliveries, endpoint_secrets, endpoints, from_ms, to_ms

DELETED: Final = "deleted"
"""Why an endpoint is gone whose owner took it away; what it was sent is kept for a while, its secrets are not."""

Chance = Callable[[int], bytes]
"""So many random bytes."""

_COLUMN: Final = endpoints.c


@dataclass(frozen=True, slots=True)
class KeptSecret:
    """A signing secret as it is kept, without its text."""

    number: int
    sealed: str = field(repr=False)
    public: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it may be looked at."""

    id: str
    project: str
    name: str
    url_shown: str
    format: str
    settings: dict[str, Any]
    template: str
    filter: Filter
    state: EndpointState
    why: str
    rate: Rate | None
    concurrency: int
    schedule: Schedule | None
    ordering: Ordering
    timeout_s: float
    source: str
    since_sequence: int
    failing_since: datetime | None
    breaker_state: str
    version: int
    created_at: datetime
    updated_at: datetime
    url_sealed: str = field(repr=False)
    headers_sealed: str = field(repr=False)
    secrets: tuple[KeptSecret, ...] = ()
    """By number; also those that sign no longer."""

    @property
    def deleted(self) -> bool:
        """Whether its owner took it away."""
        return self.state is EndpointState.GONE and self.why == DELETED


@dataclass(frozen=True, slots=True)
class Opened:
    """An endpoint with all that is secret about it."""

    endpoint: Endpoint
    subscription: Subscription
    secrets: tuple[Secret, ...]

    def keys(self, now: datetime) -> tuple[Key, ...]:
        """What signs its messages now."""
        return keys_of(self.secrets, now)


@dataclass(frozen=True, slots=True)
class Vault:
    """What secrets are sealed with."""

    sealer: Sealer
    chance: Chance

    def seal(self, text: str, endpoint_id: str, column: str) -> str:
        """A secret of an endpoint, sealed; "" stays what it is."""
        return self.sealer.seal(text, f"{endpoint_id} {column}", nonce=self.chance(NONCE_BYTES)) if text else ""

    def unseal(self, sealed: str, endpoint_id: str, column: str) -> str:
        """The secret. Errors: SealBroken."""
        return self.sealer.unseal(sealed, f"{endpoint_id} {column}") if sealed else ""


def add_endpoint(
    connection: Connection,
    subscription: Subscription,
    secret: Secret,
    *,
    id: str,
    project: str,
    since_sequence: int,
    vault: Vault,
    now: datetime,
) -> None:
    """Keep a new endpoint, which gets what happens behind `since_sequence`."""
    connection.execute(
        insert(endpoints).values(
            id=id,
            project=project,
            since_sequence=since_sequence,
            version=1,
            created_at_ms=to_ms(now),
            updated_at_ms=to_ms(now),
            **_columns(id, subscription, vault),
        )
    )
    _put_secrets(connection, id, [secret], vault)


def find_endpoint(connection: Connection, id: str, *, lock: bool = False) -> Endpoint | None:
    """One endpoint, also a deleted one; None when there never was one, or nothing is kept of it."""
    query = select(endpoints).where(_COLUMN.id == id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _endpoint(row, _secrets(connection, [id]).get(id, ()))


def find_endpoints(connection: Connection, ids: Collection[str]) -> dict[str, Endpoint]:
    """Several at once, by id, as far as they are there."""
    rows = connection.execute(select(endpoints).where(_COLUMN.id.in_(ids))).all()
    secrets = _secrets(connection, ids)
    return {row.id: _endpoint(row, secrets.get(row.id, ())) for row in rows}


def list_endpoints(
    connection: Connection, project: str, *, after: str = "", limit: int = limits.ENDPOINTS_PER_PROJECT_MAX
) -> list[Endpoint]:
    """A project's endpoints by id, from the one behind `after` on; none that is deleted."""
    query = select(endpoints).where(_COLUMN.project == project, ~_deleted(), _COLUMN.id > after)
    rows = connection.execute(query.order_by(_COLUMN.id).limit(limit)).all()
    secrets = _secrets(connection, [row.id for row in rows])
    return [_endpoint(row, secrets.get(row.id, ())) for row in rows]


def count_endpoints(connection: Connection, project: str) -> int:
    """How many a project has."""
    query = select(func.count()).select_from(endpoints).where(_COLUMN.project == project, ~_deleted())
    return connection.execute(query).scalar_one()


def opened(endpoint: Endpoint, vault: Vault) -> Opened:
    """An endpoint with its secrets. Errors: SealBroken, also for one that is deleted: nothing is left to open."""
    id_ = endpoint.id
    hidden = json.loads(vault.unseal(endpoint.headers_sealed, id_, "headers") or "{}")
    subscription = Subscription(
        url=vault.unseal(endpoint.url_sealed, id_, "url"),
        filter=endpoint.filter,
        name=endpoint.name,
        format=endpoint.format,
        settings=endpoint.settings,
        secrets=hidden.get("secrets", {}),
        template=endpoint.template,
        headers=hidden.get("headers", {}),
        rate=endpoint.rate,
        concurrency=endpoint.concurrency,
        schedule=endpoint.schedule,
        ordering=endpoint.ordering,
        timeout_s=endpoint.timeout_s,
        source=endpoint.source,
    )
    secrets = tuple(
        Secret(
            each.number, vault.unseal(each.sealed, id_, _secret_column(each.number)), each.public, each.created_at,
            each.expires_at,
        )
        for each in endpoint.secrets
    )  # fmt: skip
    return Opened(endpoint, subscription, secrets)


def change_endpoint(
    connection: Connection, before: Endpoint, subscription: Subscription, *, vault: Vault, now: datetime
) -> bool:
    """Keep what its owner decides now; False when somebody changed it since it was read.

    A rate counts anew, with a full bucket.
    """
    changed = connection.execute(
        update(endpoints)
        .where(_COLUMN.id == before.id, _COLUMN.version == before.version)
        .values(
            **_columns(before.id, subscription, vault),
            **({} if subscription.rate == before.rate else {"bucket_tokens": None}),
            version=before.version + 1,
            updated_at_ms=to_ms(now),
        )
    )
    return changed.rowcount == 1


def change_secrets(
    connection: Connection, before: Endpoint, secrets: Sequence[Secret], *, vault: Vault, now: datetime
) -> bool:
    """Keep the signing secrets that there are now; False when somebody changed the endpoint since it was read."""
    changed = connection.execute(
        update(endpoints)
        .where(_COLUMN.id == before.id, _COLUMN.version == before.version)
        .values(version=before.version + 1, updated_at_ms=to_ms(now))
    )
    if changed.rowcount != 1:
        return False
    connection.execute(delete(endpoint_secrets).where(endpoint_secrets.c.endpoint_id == before.id))
    _put_secrets(connection, before.id, secrets, vault)
    return True


def delete_endpoint(connection: Connection, endpoint: Endpoint, now: datetime) -> None:
    """Deliver nothing more, and forget its URL and its secrets.

    What it was sent is kept as long as any delivery is; without any, the endpoint goes at once.
    """
    # Ends what is under way; its owner did this, and needs no notice.
    end(connection, endpoint.id, EndpointState.GONE, why=DELETED, notices=_Unsaid(), now=now)
    connection.execute(delete(endpoint_secrets).where(endpoint_secrets.c.endpoint_id == endpoint.id))
    connection.execute(
        update(endpoints)
        .where(_COLUMN.id == endpoint.id)
        .values(
            state=EndpointState.GONE,
            why=DELETED,
            url_sealed="",
            headers_sealed="",
            settings="{}",
            template="",
            version=_COLUMN.version + 1,
            updated_at_ms=to_ms(now),
        )
    )
    remove_deleted(connection, ids=[endpoint.id])


def remove_deleted(connection: Connection, *, ids: Collection[str] | None = None) -> int:
    """Forget deleted endpoints of which no delivery is kept any more. Shapes: how many."""
    query = select(_COLUMN.id).where(_deleted(), ~exists().where(deliveries.c.endpoint_id == _COLUMN.id))
    if ids is not None:
        query = query.where(_COLUMN.id.in_(ids))
    found = connection.execute(query.limit(limits.ROWS_PER_SWEEP_MAX)).scalars().all()
    if found:
        connection.execute(delete(endpoints).where(_COLUMN.id.in_(found)))
    return len(found)


def reseal_endpoint(connection: Connection, endpoint: Endpoint, vault: Vault) -> int:
    """Seal all of an endpoint's secrets with the newest key. Shapes: how many were sealed by another one.

    Errors: SealBroken, and then nothing of it is changed.
    """
    columns = [("url", endpoint.url_sealed), ("headers", endpoint.headers_sealed)]
    stale = {
        f"{name}_sealed": vault.seal(vault.unseal(sealed, endpoint.id, name), endpoint.id, name)
        for name, sealed in columns
        if sealed and not vault.sealer.is_current(sealed)
    }
    numbers = {
        each.number: vault.seal(
            vault.unseal(each.sealed, endpoint.id, _secret_column(each.number)),
            endpoint.id,
            _secret_column(each.number),
        )
        for each in endpoint.secrets
        if not vault.sealer.is_current(each.sealed)
    }
    if stale:
        connection.execute(update(endpoints).where(_COLUMN.id == endpoint.id).values(**stale))
    for number, sealed in numbers.items():
        mine = (endpoint_secrets.c.endpoint_id == endpoint.id) & (endpoint_secrets.c.number == number)
        connection.execute(update(endpoint_secrets).where(mine).values(sealed=sealed))
    return len(stale) + len(numbers)


class _Unsaid:
    def write(self, _connection: Connection, _notice: Notice) -> None:
        """Say nothing."""


def _deleted() -> ColumnElement[bool]:
    return (_COLUMN.state == EndpointState.GONE) & (_COLUMN.why == DELETED)


def _columns(id_: str, subscription: Subscription, vault: Vault) -> dict[str, Any]:
    rate, schedule = subscription.rate, subscription.schedule
    hidden = {"headers": dict(subscription.headers), "secrets": dict(subscription.secrets)}
    return {
        "name": subscription.name,
        "url_sealed": vault.seal(subscription.url, id_, "url"),
        "url_shown": show_url(subscription.url),
        "format": subscription.format,
        "settings": json.dumps(dict(subscription.settings)),
        "template": subscription.template,
        "filter": json.dumps(filter_json(subscription.filter)),
        "headers_sealed": vault.seal(json.dumps(hidden), id_, "headers") if any(hidden.values()) else "",
        "rate_per_s": None if rate is None else rate.per_s,
        "burst": 1 if rate is None else rate.burst,
        "concurrency": subscription.concurrency,
        "schedule": "" if schedule is None else json.dumps(schedule.delays_s),
        "ordering": subscription.ordering,
        "timeout_ms": round(subscription.timeout_s * 1_000),
        "source": subscription.source,
    }


def _put_secrets(connection: Connection, id_: str, secrets: Sequence[Secret], vault: Vault) -> None:
    rows = [
        {
            "endpoint_id": id_,
            "number": each.number,
            "sealed": vault.seal(each.text, id_, _secret_column(each.number)),
            "public": each.public,
            "created_at_ms": to_ms(each.created_at),
            "expires_at_ms": None if each.expires_at is None else to_ms(each.expires_at),
        }
        for each in secrets
    ]
    connection.execute(insert(endpoint_secrets), rows)


def _secret_column(number: int) -> str:
    return f"secret {number}"


def _secrets(connection: Connection, ids: Collection[str]) -> dict[str, tuple[KeptSecret, ...]]:
    query = select(endpoint_secrets).where(endpoint_secrets.c.endpoint_id.in_(ids)).order_by(endpoint_secrets.c.number)
    found: dict[str, tuple[KeptSecret, ...]] = {}
    for row in connection.execute(query):
        secret = KeptSecret(row.number, row.sealed, row.public, from_ms(row.created_at_ms), _maybe(row.expires_at_ms))
        found[row.endpoint_id] = (*found.get(row.endpoint_id, ()), secret)
    return found


def _endpoint(row: Row[Any], secrets: tuple[KeptSecret, ...]) -> Endpoint:
    return Endpoint(
        id=row.id,
        project=row.project,
        name=row.name,
        url_shown=row.url_shown,
        format=row.format,
        settings=json.loads(row.settings),
        template=row.template,
        filter=_filter(json.loads(row.filter)),
        state=EndpointState(row.state),
        why=row.why,
        rate=None if row.rate_per_s is None else Rate(row.rate_per_s, row.burst),
        concurrency=row.concurrency,
        schedule=Schedule(tuple(json.loads(row.schedule))) if row.schedule else None,
        ordering=Ordering(row.ordering),
        timeout_s=row.timeout_ms / 1_000,
        source=row.source,
        since_sequence=row.since_sequence,
        failing_since=_maybe(row.failing_since_ms),
        breaker_state=row.breaker_state,
        version=row.version,
        created_at=from_ms(row.created_at_ms),
        updated_at=from_ms(row.updated_at_ms),
        url_sealed=row.url_sealed,
        headers_sealed=row.headers_sealed,
        secrets=secrets,
    )


def _filter(stored: Mapping[str, Any]) -> Filter:
    lists = {name: tuple(stored.get(name, ())) for name in LISTS}
    return Filter(**lists, expression=stored.get(EXPRESSION, ""))


def _maybe(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
