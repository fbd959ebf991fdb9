"""Ask statements of the driver itself that are the same at every commit.

SQLAlchemy takes three times as long to build, look up and wrap such a statement as SQLite takes to run it. A statement
here is built once, spelled once for each kind of database, and runs on the open transaction of a connection; an error
is the driver's, which `writing` and `reading` translate.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Table, and_, bindparam, delete, insert, update
from sqlalchemy.sql import ClauseElement

from server.store.columns import POSTGRESQL


@dataclass(frozen=True, slots=True)
class _Spelled:
    """A statement in the words of one kind of database."""

    text: str
    positions: tuple[str, ...] | None
    """The parameters in their order; None where they go by name."""

    fixed: Mapping[str, Any]
    """Parameters with a value of their own."""

    processors: Mapping[str, Callable[[Any], Any]]
    """Parameters that a driver wants in another form, such as instants."""

    def arguments(self, values: Mapping[str, Any]) -> Any:
        """Errors: KeyError for a parameter without a value."""
        for name, process in self.processors.items():
            if name in values:
                values = {**values, name: process(values[name])}
        if self.positions is None:
            return {**self.fixed, **values}
        if self.fixed:
            values = {**self.fixed, **values}
        return tuple([values[name] for name in self.positions])


class Statement:
    """A statement with named parameters (`bindparam`). Rows are tuples of what the driver gives: texts and numbers."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._spelled: dict[str, _Spelled] = {}

    def all(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Every row. Errors: the driver's."""
        found: list[tuple[Any, ...]] = self._run(connection, values).fetchall()
        return found

    def first(self, connection: Connection, **values: Any) -> tuple[Any, ...] | None:
        """The first row, or None. Errors: the driver's."""
        found: tuple[Any, ...] | None = self._run(connection, values).fetchone()
        return found

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of these parameters. Errors: the driver's."""
        if len(rows) == 1:
            self._run(connection, rows[0])
        elif rows:
            spelled = self._in(connection.dialect)
            driver: Any = connection.connection.driver_connection
            driver.cursor().executemany(spelled.text, [spelled.arguments(row) for row in rows])

    def count(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for each of these parameters; how many rows of the table it changed. Errors: the driver's."""
        if not rows:
            return 0
        spelled = self._in(connection.dialect)
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor()
        cursor.executemany(spelled.text, [spelled.arguments(row) for row in rows])
        changed: int = cursor.rowcount
        return changed

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        spelled = self._in(connection.dialect)
        driver: Any = connection.connection.driver_connection
        return driver.execute(spelled.text, spelled.arguments(values))

    def _in(self, dialect: Dialect) -> _Spelled:
        spelled = self._spelled.get(dialect.name)
        if spelled is None:
            spelled = self._spelled[dialect.name] = _spell(self._statement, dialect)
        return spelled


def _spell(statement: ClauseElement, dialect: Dialect) -> _Spelled:
    compiled: Any = statement.compile(dialect=dialect)
    processors = {}
    for name, bind in compiled.binds.items():
        processor = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if processor is not None:
            processors[name] = processor
    fixed = {
        name: processors.pop(name)(bind.value) if name in processors else bind.value
        for name, bind in compiled.binds.items()
        if not bind.required
    }
    return _Spelled(compiled.string, compiled.positiontup and tuple(compiled.positiontup), fixed, processors)


@contextmanager
def together(connection: Connection) -> Iterator[None]:
    """Run the block's statements, of which nothing is read, without waiting for each one's answer, where that can be.

    All have run when the block ends. Errors: the driver's, of the first one that failed, at the block's end at the
    latest.
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == POSTGRESQL:
        # One way to the server and back for all of them.
        with driver.pipeline():
            yield
    else:
        yield


_OWN: Final = "own_"
"""Parameters may not have a column's name when they are not its new value."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    if rows:
        _insert(table, tuple(rows[0])).run(connection, rows)


def update_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Update rows by their primary key; all have the same columns."""
    if rows:
        keys = {column.name for column in table.primary_key}
        renamed = [{_OWN + name if name in keys else name: value for name, value in row.items()} for row in rows]
        _update(table, tuple(rows[0])).run(connection, renamed)


def delete_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Delete what has these values; all rows have the same columns."""
    if rows:
        renamed = [{_OWN + name: value for name, value in row.items()} for row in rows]
        _delete(table, tuple(rows[0])).run(connection, renamed)


@functools.cache
def _insert(table: Table, names: tuple[str, ...]) -> Statement:
    return Statement(insert(table).values({name: bindparam(name, type_=table.c[name].type) for name in names}))


@functools.cache
def _update(table: Table, names: tuple[str, ...]) -> Statement:
    keys = [column.name for column in table.primary_key]
    values = {name: bindparam(name, type_=table.c[name].type) for name in names if name not in keys}
    return Statement(update(table).where(_matching(table, keys)).values(values))


@functools.cache
def _delete(table: Table, names: tuple[str, ...]) -> Statement:
    return Statement(delete(table).where(_matching(table, names)))


def _matching(table: Table, names: Sequence[str]) -> Any:
    return and_(*(table.c[name] == bindparam(_OWN + name, type_=table.c[name].type) for name in names))
