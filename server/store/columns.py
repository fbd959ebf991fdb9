"""Spell columns and triggers so that every kind of database keeps the same.

A migration writes plain types; what PostgreSQL needs to keep the same is added here, for all of them:

- Texts are ordered by their code points, as SQLite and Python do; by a language's rules pages and exports would differ
  from one database to the next, and indexes would break when the system's rules change.
- Instants have a time zone.
- Whole numbers have 64 bits: a restored database counts on from the seconds since 1970.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, String, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import NullType

POSTGRESQL: Final = "postgresql"
"""The name of its dialect."""


WholeNumber: Final = Integer().with_variant(BigInteger(), POSTGRESQL)
"""The type of every whole number in the tables."""


class stored_text(GenericFunction[Any]):
    """A text column as it is stored: bytes where the database does not vouch for UTF-8, else text."""

    type = NullType()
    inherit_cache = True


@compiles(stored_text)
def _as_bytes(element: stored_text, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(stored_text, POSTGRESQL)
def _as_text(element: stored_text, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(element.clauses, **options)
    return text


class stored_instant(GenericFunction[Any]):
    """An instant in UTC as the driver gives it, of which nothing is made: a text, or a datetime without a time zone."""

    type = NullType()
    inherit_cache = True


@compiles(stored_instant)
def _as_it_is(element: stored_instant, compiler: Any, **options: Any) -> str:
    plain: str = compiler.process(element.clauses, **options)
    return plain


@compiles(stored_instant, POSTGRESQL)
def _without_time_zone(element: stored_instant, compiler: Any, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC'"


@compiles(Text, POSTGRESQL)
@compiles(String, POSTGRESQL)
def _by_code_point(type_: String, compiler: Any, **options: Any) -> str:
    spelled = compiler.visit_TEXT if isinstance(type_, Text) else compiler.visit_VARCHAR
    plain: str = spelled(type_, **options)
    is_column = isinstance(options.get("type_expression"), Column)
    return f'{plain} COLLATE "C"' if is_column and type_.collation is None else plain


@compiles(DateTime, POSTGRESQL)
def _with_time_zone(_type: DateTime, _compiler: Any, **_options: Any) -> str:
    return "TIMESTAMP WITH TIME ZONE"


@compiles(Integer, POSTGRESQL)
def _wide(_type: Integer, _compiler: Any, **options: Any) -> str:
    return "BIGINT" if isinstance(options.get("type_expression"), Column) else "INTEGER"


def refuse_changes(connection: Connection, table: str) -> None:
    """Have the database itself refuse to change or delete this table's rows; for migrations."""
    message = f"rows of {table} are never changed or deleted"
    if connection.dialect.name == POSTGRESQL:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION flagstaff_refuse_changes() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION USING MESSAGE = 'rows of ' || TG_TABLE_NAME || ' are never changed or deleted';"
            " END $$"
        )
        for verb in ("UPDATE", "DELETE", "TRUNCATE"):
            each = "STATEMENT" if verb == "TRUNCATE" else "ROW"
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION flagstaff_refuse_changes()"
            )
        return
    for verb in ("UPDATE", "DELETE"):
        connection.exec_driver_sql(
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
