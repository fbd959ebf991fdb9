"""Keep API tokens: write and read them, and note when they were used. Their secrets never come here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from server.core.access import Scope
from server.core.audit import SERVER_TRAIL
from server.core.errors import NotFound, StoreCorrupt
from server.core.tokens import Token, grants_of, stored_grants, token_document
from server.store import tables
from server.store.mapping import compact
from server.store.projects import ensure_server
from server.store.saving import Cause, Record, save_records

ENDED_AT_ONCE_MAX: Final = 10_000
"""As many as may be good at once."""

_COLUMN: Final = tables.tokens.c


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token with what is kept to recognise it."""

    token: Token
    digest: str
    key_name: str
    change: int = 0
    """By which a reader knows this state of it; set when it is stored."""


def last_change(connection: Connection) -> int:
    """A number that grows with every change of a token, but not with its use; 0 while there is none."""
    return int(connection.execute(select(func.coalesce(func.max(_COLUMN.change), 0))).scalar_one())


def fingerprint(connection: Connection) -> tuple[object, ...]:
    """Something that is another after every change of a token, also where a database was put back in between."""
    columns = (_COLUMN.change, _COLUMN.created_at, _COLUMN.revoked_at)
    return tuple(connection.execute(select(func.count(), *map(func.max, columns))).one())


def has_tokens(connection: Connection) -> bool:
    """Whether there ever was one."""
    return connection.execute(select(_COLUMN.id).limit(1)).first() is not None


def load_tokens(connection: Connection, *, ended_after: datetime) -> list[StoredToken]:
    """All tokens that are good, or ended after an instant, which can still be told to who uses them.

    A row that cannot be read is left out: its token is unknown then.
    """
    still = (or_(each.is_(None), each > ended_after) for each in (_COLUMN.revoked_at, _COLUMN.expires_at))
    query = select(tables.tokens).where(*still)
    found = []
    for row in connection.execute(query).mappings():
        try:
            found.append(_stored(row))
        except StoreCorrupt:
            continue
    return found


def list_tokens(
    connection: Connection, home: Scope, *, after: str = "", limit: int = 1_000, good_at: datetime | None = None
) -> list[StoredToken]:
    """Tokens that are managed in a place or inside it, by id, from the one behind `after` on.

    With `good_at` only those that are good at that instant.
    """
    query = select(tables.tokens).where(_COLUMN.id > after).order_by(_COLUMN.id).limit(limit)
    return [_stored(row) for row in connection.execute(_chosen(query, home, good_at)).mappings()]


def count_tokens(connection: Connection, home: Scope, *, good_at: datetime | None = None) -> int:
    """How many tokens `list_tokens` has in all."""
    query = _chosen(select(func.count()).select_from(tables.tokens), home, good_at)
    return int(connection.execute(query).scalar_one())


def read_token(connection: Connection, identifier: str, home: Scope) -> StoredToken:
    """One token of a place or inside it. Errors: NotFound, also when it is managed elsewhere; StoreCorrupt."""
    query = select(tables.tokens).where(_COLUMN.id == identifier)
    row = connection.execute(_chosen(query, home, None)).mappings().first()
    if row is None:
        place = "/".join(part for part in (home.project, home.environment) if part) or "this server"
        raise NotFound(
            f"token {identifier[:64]!r} does not exist in {place}; `flagstaff token list` shows those that do"
        )
    return _stored(row)


def add_token(connection: Connection, stored: StoredToken, cause: Cause) -> None:
    """Write a new token with its audit entry and event."""
    token = stored.token
    if token.home.project == SERVER_TRAIL:
        ensure_server(connection, cause.now)
    row = {
        "id": token.id,
        "project": token.home.project,
        "environment": token.home.environment,
        "name": token.name,
        "grants": json.dumps(stored_grants(token.grants)),
        "digest": stored.digest,
        "key_name": stored.key_name,
        "created_at": token.created_at,
        "created_by": token.created_by,
        **_changing(token),
        "change": last_change(connection) + 1,
    }
    connection.execute(insert(tables.tokens), [row])
    _record(connection, cause, "token.created", before=None, after=token)


def change_token(connection: Connection, before: Token, after: Token, *, event: str, cause: Cause) -> None:
    """Write what changed of a token, with its audit entry and event. Shapes: event is "token.revoked" and so on."""
    values = {**_changing(after), "change": last_change(connection) + 1}
    connection.execute(update(tables.tokens).where(_COLUMN.id == after.id).values(**values))
    _record(connection, cause, event, before=before, after=after)


def end_tokens(connection: Connection, home: Scope, cause: Cause) -> None:
    """Revoke all tokens of a place that is deleted: they must not open another one that gets its name."""
    for stored in list_tokens(connection, home, good_at=cause.now, limit=ENDED_AT_ONCE_MAX):
        after = replace(stored.token, revoked_at=cause.now)
        change_token(connection, stored.token, after, event="token.revoked", cause=cause)


def note_used(connection: Connection, used: Mapping[str, datetime]) -> None:
    """Note when tokens were last used, by id; never an earlier instant than is noted.

    There is no audit entry: nothing about the token changed.
    """
    later = or_(_COLUMN.last_used_at.is_(None), _COLUMN.last_used_at < bindparam("used_at"))
    statement = update(tables.tokens).where(_COLUMN.id == bindparam("own_id"), later)
    rows = [{"own_id": identifier, "used_at": at} for identifier, at in used.items()]
    if rows:
        connection.execute(statement.values(last_used_at=bindparam("used_at")), rows)


def _chosen(query: Any, home: Scope, good_at: datetime | None) -> Any:
    if home.project:
        query = query.where(_COLUMN.project == home.project)
    if home.environment:
        query = query.where(_COLUMN.environment == home.environment)
    if good_at is None:
        return query
    return query.where(_COLUMN.revoked_at.is_(None), or_(_COLUMN.expires_at.is_(None), _COLUMN.expires_at > good_at))


def _changing(token: Token) -> dict[str, Any]:
    return {"expires_at": token.expires_at, "revoked_at": token.revoked_at, "replaced_by": token.replaced_by}


def _record(connection: Connection, cause: Cause, event: str, *, before: Token | None, after: Token) -> None:
    before_text = None if before is None else compact(token_document(before))
    record = Record("", 0, event, "token", after.id, before_text, compact(token_document(after)))
    # In the trail of the place where the token is managed, whoever changed it.
    save_records(connection, replace(cause, project=after.home.project), records=[record], damaged=())


def _stored(row: Mapping[Any, Any]) -> StoredToken:
    try:
        token = Token(
            id=row["id"],
            name=row["name"],
            grants=grants_of(_roles(row["grants"])),
            home=Scope(row["project"], row["environment"]),
            created_at=row["created_at"],
            created_by=row["created_by"],
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
            last_used_at=row["last_used_at"],
            replaced_by=row["replaced_by"],
        )
    except (KeyError, TypeError, ValueError):
        raise StoreCorrupt(f"the stored token {str(row['id'])[:64]!r} is damaged; revoke it and make another") from None
    return StoredToken(token, row["digest"], row["key_name"], row["change"])


def _roles(text: str) -> Sequence[Mapping[str, str | None]]:
    roles: Sequence[Mapping[str, str | None]] = json.loads(text)
    return roles
