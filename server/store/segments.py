"""Find an environment's segments, a page at a time."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from server.core.environments import Environment
from server.store import tables
from server.store.flagsets import load_parts
from server.store.mapping import Document


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Which part of a list of keys is wanted."""

    size: int
    after: str | None = None
    """The last key before the page."""

    descending: bool = False
    text: str = ""
    """Only keys that have this in them, in lower or upper case."""


def page_of_segments(
    connection: Connection, where: Environment, page: KeyPage
) -> tuple[dict[str, Document | None], int]:
    """The documents of one page by key, in order, and how many there are on all pages."""
    columns = tables.segments.c
    mine = [columns.project == where.project, columns.environment == where.key]
    if page.text:
        mine.append(func.lower(columns.key).contains(page.text.lower(), autoescape=True))
    total = connection.execute(select(func.count()).select_from(tables.segments).where(*mine)).scalar_one()
    query = select(columns.key).where(*mine).limit(page.size)
    if page.after is not None:
        query = query.where(columns.key < page.after if page.descending else columns.key > page.after)
    ordered = query.order_by(columns.key.desc() if page.descending else columns.key)
    keys = [key for (key,) in connection.execute(ordered)]
    _, documents = load_parts(connection, where, flags=(), segments=keys)
    return {key: documents[key] for key in keys if key in documents}, int(total)
