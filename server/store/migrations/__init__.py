"""Bring a database to the schema of this program, whole or not at all."""

from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from server.core.errors import StoreCorrupt, StoreUnavailable
from server.store.engine import is_empty, is_there, make, reading, shown, writing


class SchemaState(StrEnum):
    """How a database's schema stands to this program's."""

    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"


def migrate(engine: Engine, *, target: str = "head") -> list[str]:
    """Apply the migrations that are missing and name them; an up-to-date database is left alone.

    `target` stops at an older schema, for content of that age.

    All of them happen in one transaction that holds the write lock: of several processes that start at once one
    migrates and the others find it done, and after a crash there is the old schema or the new one.
    Errors: StoreCorrupt when a newer program was here, or the file belongs to another program.
    """
    if schema_state(engine) is SchemaState.CURRENT:
        return []
    make(engine)
    config = _config()
    with writing(engine, unhurried=True) as connection:
        _refuse_ahead(_state(connection), engine)
        _refuse_foreign(connection, engine)
        config.attributes["connection"] = connection
        config.attributes["applied"] = []
        command.upgrade(config, target)
        return list(config.attributes["applied"])


def known_versions() -> frozenset[str]:
    """Every schema that this program can bring up to date."""
    return frozenset(step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions())


def schema_state(engine: Engine) -> SchemaState:
    """Compare the database's schema with this program's. Errors: StoreUnavailable, StoreCorrupt."""
    if not is_there(engine):
        return SchemaState.BEHIND
    with reading(engine) as connection:
        return _state(connection)


def require_current(engine: Engine) -> None:
    """Refuse to go on with a schema that this program does not know.

    Errors: StoreUnavailable when migrations are missing; StoreCorrupt when a newer program was here.
    """
    state = schema_state(engine)
    _refuse_ahead(state, engine)
    if state is SchemaState.BEHIND:
        raise StoreUnavailable(f"the schema of {shown(engine)} is older than this program; run `flagstaff migrate`")


def _config() -> Config:
    config = Config()
    # Percent signs would be read as interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _state(connection: Connection) -> SchemaState:
    script = ScriptDirectory.from_config(_config())
    version = MigrationContext.configure(connection).get_current_revision()
    if version == script.get_current_head():
        return SchemaState.CURRENT
    known = {step.revision for step in script.walk_revisions()}
    return SchemaState.BEHIND if version is None or version in known else SchemaState.AHEAD


def _refuse_ahead(state: SchemaState, engine: Engine) -> None:
    if state is SchemaState.AHEAD:
        raise StoreCorrupt(
            f"the schema of {shown(engine)} was made by a newer Flagstaff than this one; "
            "run that version or a later one, or restore a backup from before the upgrade"
        )


def _refuse_foreign(connection: Connection, engine: Engine) -> None:
    if MigrationContext.configure(connection).get_current_revision() is None and not is_empty(connection):
        raise StoreCorrupt(
            f"{shown(engine)} has tables but was not made by Flagstaff; give another path, nothing was written"
        )
