"""Keep the templates from which a project's releases are drawn up."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import NotFound, StoreCorrupt, TooLarge
from server.core.limits import RELEASE_TEMPLATES_MAX
from server.core.releases.plan import Gates
from server.store import release_tables as tables
from server.store.mapping import compact

KIND: Final = "release-template"
_COLUMNS: Final = tables.release_templates.c


@dataclass(frozen=True, slots=True)
class TemplateStep:
    """A share, and what holds the step. Units: parts of SHARE_PARTS."""

    share_parts: int
    gates: Gates


@dataclass(frozen=True, slots=True)
class Template:
    """A curve with its gates."""

    project: str
    name: str
    description: str
    steps: Sequence[TemplateStep]
    updated_by: str
    updated_at: datetime


def put_template(connection: Connection, template: Template) -> Template | None:
    """Keep a template in place of one of its name, which is given back. Errors: TooLarge with too many of them."""
    before = find_template(connection, template.project, template.name)
    mine = _COLUMNS.project == template.project
    if before is None:
        count = connection.execute(select(func.count()).select_from(tables.release_templates).where(mine)).scalar_one()
        if count >= RELEASE_TEMPLATES_MAX:
            raise TooLarge(f"project {template.project!r} has {count} release templates, which are all that is allowed")
    connection.execute(delete(tables.release_templates).where(mine, _COLUMNS.name == template.name))
    row = {
        "project": template.project,
        "name": template.name,
        "description": template.description,
        "steps": compact([write_value(each) for each in template.steps]),
        "updated_by": template.updated_by,
        "updated_at": template.updated_at,
    }
    connection.execute(insert(tables.release_templates), row)
    return before


def delete_template(connection: Connection, project: str, name: str) -> Template:
    """Take a template away, and give it back. Errors: NotFound."""
    before = read_template(connection, project, name)
    connection.execute(delete(tables.release_templates).where(_COLUMNS.project == project, _COLUMNS.name == name))
    return before


def find_template(connection: Connection, project: str, name: str) -> Template | None:
    """One template, or None. Errors: StoreCorrupt."""
    query = select(tables.release_templates).where(_COLUMNS.project == project, _COLUMNS.name == name)
    row = connection.execute(query).mappings().first()
    return None if row is None else _stored(row)


def read_template(connection: Connection, project: str, name: str) -> Template:
    """One template. Errors: NotFound, naming those that there are; StoreCorrupt."""
    found = find_template(connection, project, name)
    if found is None:
        known = ", ".join(each.name for each in list_templates(connection, project)) or "none"
        raise NotFound(f"release template {name!r} is not in project {project!r}; there are: {known}")
    return found


def list_templates(connection: Connection, project: str) -> list[Template]:
    """All templates of a project, by name. Errors: StoreCorrupt."""
    query = select(tables.release_templates).where(_COLUMNS.project == project).order_by(_COLUMNS.name)
    return [_stored(row) for row in connection.execute(query).mappings()]


def _stored(row: Any) -> Template:
    try:
        steps = tuple(read_value(TemplateStep, each) for each in json.loads(row["steps"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the release template {row['name']!r} is damaged ({type(error).__name__}); put it again"
        ) from None
    return Template(row["project"], row["name"], row["description"], steps, row["updated_by"], row["updated_at"])
