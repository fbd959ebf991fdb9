"""Lift, for a restore alone, the rule that revisions and audit entries are never changed or deleted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection

TABLES: Final = ("audit_entry", "revision")


@contextmanager
def lifted(connection: Connection) -> Iterator[None]:
    """Within a transaction: the rule is off while the block runs, and on again when the transaction commits.

    Raised errors end the transaction, which puts everything back.
    """
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        found = [(name, sql) for name, sql in connection.exec_driver_sql(query)]
        for name, _ in found:
            connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        yield
        for _, sql in found:
            connection.exec_driver_sql(sql)
    else:
        for table in TABLES:
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in TABLES:
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
