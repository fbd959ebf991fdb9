"""Run migrations on the connection and in the transaction that the caller opened."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection

from server.store import failpoints
from server.store.tables import Base


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # Alembic thinks that SQLite cannot do it, because Python's driver used to commit before DDL; ours does not.
        transactional_ddl=True,
        on_version_apply=_applied,
    )
    with context.begin_transaction():
        context.run_migrations()


def _applied(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
    context.config.attributes["applied"].append(step.up_revision_id)
    failpoints.reach("migrate.half")


_run(context.config.attributes["connection"])
