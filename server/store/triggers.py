"""Keep the addresses that have one action done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.core.actions.triggers import Effect, Trigger
from server.core.errors import NotFound
from server.core.json import Json
from server.core.tokens import grants_of, stored_grants
from server.store.action_tables import triggers
from server.store.mapping import compact

_COLUMNS: Final = triggers.c


@dataclass(frozen=True, slots=True)
class StoredTrigger:
    """An address, with what is kept of its secrets."""

    trigger: Trigger
    digest: str
    signing: str = ""


def insert_trigger(connection: Connection, stored: StoredTrigger) -> None:
    """Keep a new one."""
    connection.execute(insert(triggers), _row(stored))


def save_trigger(connection: Connection, stored: StoredTrigger, now: datetime) -> StoredTrigger:
    """Keep it as it is now; its version counts up."""
    trigger = replace(stored.trigger, version=stored.trigger.version + 1, updated_at=now)
    after = replace(stored, trigger=trigger)
    connection.execute(update(triggers).where(_COLUMNS.id == trigger.id).values(_row(after)))
    return after


def delete_trigger(connection: Connection, id: str) -> None:
    """Keep it no more."""
    connection.execute(delete(triggers).where(_COLUMNS.id == id))


def read_trigger(connection: Connection, project: str, id: str) -> StoredTrigger:
    """One by its id. Errors: NotFound."""
    query = select(triggers).where(_COLUMNS.project == project, _COLUMNS.id == id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"trigger {id!r} does not exist in project {project!r}")
    return _stored(row)


def find_trigger(connection: Connection, digest: str) -> StoredTrigger | None:
    """One by the digest of its secret."""
    row = connection.execute(select(triggers).where(_COLUMNS.digest == digest)).mappings().first()
    return None if row is None else _stored(row)


def list_triggers(connection: Connection, project: str) -> list[StoredTrigger]:
    """All of a project, by their ids."""
    query = select(triggers).where(_COLUMNS.project == project).order_by(_COLUMNS.id)
    return [_stored(row) for row in connection.execute(query).mappings()]


def count_triggers(connection: Connection, project: str) -> int:
    """How many a project has."""
    query = select(func.count()).select_from(triggers).where(_COLUMNS.project == project)
    return int(connection.execute(query).scalar_one())


def note_used(connection: Connection, id: str, now: datetime) -> None:
    """Count a use."""
    used = {"use_count": _COLUMNS.use_count + 1, "used_at": now}
    connection.execute(update(triggers).where(_COLUMNS.id == id).values(used))


def _row(stored: StoredTrigger) -> dict[str, Any]:
    trigger = stored.trigger
    document = {
        "firing": _written(trigger.firing),
        "resolved": None if trigger.resolved is None else _written(trigger.resolved),
    }
    return {
        "id": trigger.id,
        "project": trigger.project,
        "environment": trigger.environment,
        "name": trigger.name,
        "preset": trigger.preset,
        "document": compact(document),
        "digest": stored.digest,
        "signing": stored.signing,
        "state": "enabled" if trigger.enabled else "disabled",
        "maker": trigger.maker,
        "grants": json.dumps(stored_grants(trigger.grants)),
        "use_count": trigger.use_count,
        "used_at": trigger.used_at,
        "version": trigger.version,
        "created_at": trigger.created_at,
        "updated_at": trigger.updated_at,
    }


def _stored(row: Mapping[Any, Any]) -> StoredTrigger:
    document = json.loads(row["document"])
    trigger = Trigger(
        id=row["id"],
        project=row["project"],
        environment=row["environment"],
        name=row["name"],
        firing=_read(document["firing"]),
        resolved=None if document["resolved"] is None else _read(document["resolved"]),
        preset=row["preset"],
        enabled=row["state"] == "enabled",
        signed=bool(row["signing"]),
        maker=row["maker"],
        grants=grants_of(json.loads(row["grants"])),
        use_count=row["use_count"],
        used_at=row["used_at"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    return StoredTrigger(trigger, row["digest"], row["signing"])


def _written(effect: Effect) -> Json:
    return {"action": effect.action, "inputs": dict(effect.inputs)}


def _read(kept: Mapping[str, Json]) -> Effect:
    return Effect(kept["action"], kept["inputs"])
