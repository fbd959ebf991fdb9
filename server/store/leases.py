"""Lend the right to do a piece of work to one process at a time.

A lease is an optimisation: it keeps others from trying. What makes an effect happen once is its token, compared by
`require` in the very transaction of the effect: a process that slept through its lease finds a higher one there.
Only the database's clock counts, so that processes with different clocks agree.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, Update, insert, select, update

from server.core.errors import LeaseLost
from server.store import tables
from server.store.engine import database_now, reading, writing

_COLUMN: Final = tables.leases.c


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do what `name` says, until the database's clock says otherwise."""

    name: str
    holder: str
    token: int
    """Higher at every hand-over, for ever."""

    ttl_s: float


def acquire(engine: Engine, name: str, *, holder: str, ttl_s: float) -> Lease | None:
    """Take a lease that nobody holds; None when it is held, also by the same holder.

    Errors: StoreUnavailable, StoreCorrupt.
    """
    # Most often it is held, and a look takes no lock.
    with reading(engine) as connection:
        if not _is_free(connection, name):
            return None
    with turn(engine, name) as connection:
        if not _is_free(connection, name):
            return None
        last = connection.execute(select(_COLUMN.token).where(_COLUMN.name == name)).scalar()
        row = {"holder": holder, "token": (last or 0) + 1, "ttl_s": ttl_s, "expires_at": _end(connection, ttl_s)}
        if last is None:
            connection.execute(insert(tables.leases).values(name=name, **row))
        else:
            connection.execute(update(tables.leases).where(_COLUMN.name == name).values(**row))
        return Lease(name, holder, (last or 0) + 1, ttl_s)


def renew(engine: Engine, lease: Lease) -> bool:
    """Hold it for another `ttl_s` from now; False when it is lost. Errors: StoreUnavailable, StoreCorrupt."""
    with turn(engine, lease.name) as connection:
        if not held(connection, lease):
            return False
        connection.execute(_of(lease).values(expires_at=_end(connection, lease.ttl_s)))
        return True


def release(engine: Engine, lease: Lease) -> None:
    """Let others take it at once. Nothing happens when it is lost already. Errors: StoreUnavailable, StoreCorrupt."""
    with turn(engine, lease.name) as connection:
        # The row stays, for its token.
        connection.execute(_of(lease).values(holder="", expires_at=database_now(connection)))


def held(connection: Connection, lease: Lease) -> bool:
    """Whether the lease is still this one, and its time not over."""
    row = connection.execute(select(_COLUMN.token, _COLUMN.expires_at).where(_COLUMN.name == lease.name)).first()
    return row is not None and row.token == lease.token and database_now(connection) < row.expires_at


def require(connection: Connection, lease: Lease) -> None:
    """Refuse to go on without the lease; in a transaction of `writing` about everything nobody takes it until its end.

    Errors: LeaseLost.
    """
    if not held(connection, lease):
        raise LeaseLost(
            f"lease {lease.name!r} is no longer held by {lease.holder} with token {lease.token}; "
            "another process may do its work now"
        )


def turn(engine: Engine, name: str) -> AbstractContextManager[Connection]:
    """A transaction in which nobody else can take, keep or give back this lease. Errors: as `writing`."""
    # Nobody who watches for commits cares who works.
    return writing(engine, about=f"lease/{name}", tells=False)


def _is_free(connection: Connection, name: str) -> bool:
    row = connection.execute(select(_COLUMN.expires_at, _COLUMN.ttl_s).where(_COLUMN.name == name)).first()
    if row is None:
        return True
    expires_at: datetime = row.expires_at
    now = database_now(connection)
    # One that ends later than a whole term from now was lent before the clock was set back. Its holder, if it lives,
    # learns at its next effect that it lost it; without this nobody could work until the clock has caught up.
    return now >= expires_at or now < expires_at - timedelta(seconds=row.ttl_s)


def _end(connection: Connection, ttl_s: float) -> datetime:
    return database_now(connection) + timedelta(seconds=ttl_s)


def _of(lease: Lease) -> Update:
    return update(tables.leases).where(_COLUMN.name == lease.name, _COLUMN.token == lease.token)
