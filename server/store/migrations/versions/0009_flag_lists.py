"""Let flags be listed by what they say, and let what environments share have a version."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from server.store.columns import stored_text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE = 1_000


def upgrade() -> None:
    """Copy what is searched for out of the documents; a version is the last audit entry about the flag."""
    op.add_column("flag", sa.Column("tags", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("flag", sa.Column("search", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("flag", sa.Column("version", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("flag_config", sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False))
    connection = op.get_bind()
    _copy_flags(connection)
    _copy_configs(connection)


def _copy_flags(connection: sa.Connection) -> None:
    flag = sa.table("flag", *map(sa.column, ("project", "key", "document", "tags", "search", "version")))
    entry = sa.table("audit_entry", *map(sa.column, ("project", "subject_kind", "subject_key", "sequence")))
    versions = {
        (project, key): version
        for project, key, version in connection.execute(
            sa.select(entry.c.project, entry.c.subject_key, sa.func.max(entry.c.sequence))
            .where(entry.c.subject_kind == "flag")
            .group_by(entry.c.project, entry.c.subject_key)
        )
    }
    rows = connection.execute(sa.select(flag.c.project, flag.c.key, stored_text(flag.c.document))).all()
    update = (
        sa.update(flag)
        .where(flag.c.project == sa.bindparam("own_project"), flag.c.key == sa.bindparam("own_key"))
        .values(tags=sa.bindparam("tags"), search=sa.bindparam("search"), version=sa.bindparam("version"))
    )
    copies = [
        {"own_project": project, "own_key": key, "version": versions.get((project, key), 0), **_searched(key, raw)}
        for project, key, raw in rows
    ]
    _execute(connection, update, copies)


def _copy_configs(connection: sa.Connection) -> None:
    config = sa.table("flag_config", *map(sa.column, ("project", "environment", "key", "document", "enabled")))
    names = (config.c.project, config.c.environment, config.c.key)
    rows = connection.execute(sa.select(*names, stored_text(config.c.document))).all()
    update = (
        sa.update(config)
        .where(*(column == sa.bindparam(f"own_{column.name}") for column in names))
        .values(enabled=sa.false())
    )
    off = [
        {"own_project": project, "own_environment": environment, "own_key": key}
        for project, environment, key, raw in rows
        if _parsed(raw).get("enabled") is False
    ]
    _execute(connection, update, off)


def _execute(connection: sa.Connection, statement: sa.Update, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        connection.execute(statement, rows[start : start + _ROWS_AT_ONCE])


def _searched(key: Any, raw: bytes | str) -> dict[str, str]:
    # As server/store/saving.py wrote it at the time of this migration.
    document = _parsed(raw)
    tags, description = document.get("tags"), document.get("description")
    words = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    text = f"{key}\n{description if isinstance(description, str) else ''}"
    tagged = "\x1f".join(["", *words, ""]) if words else ""
    return {"tags": tagged.replace("\0", ""), "search": text.replace("\0", "").casefold()}


def _parsed(raw: bytes | str) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
