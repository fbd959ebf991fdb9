"""Check that what a database announces is what the catalogue promises."""

import json
from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs
from sqlalchemy import Engine, select

from server.core.announcing.catalogue import CATALOGUE, data_of
from server.core.announcing.fields import data_schema
from server.store import tables
from server.store.engine import is_there, reading

_VALIDATORS: Final = {
    name: jsonschema_rs.validator_for(data_schema(type_), validate_formats=True) for name, type_ in CATALOGUE.items()
}


def problems_of(type_: str, data: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event's data: fields beyond the schema's, too."""
    if type_ not in CATALOGUE:
        return [f"{type_} is in no catalogue"]
    known = {each.name for each in CATALOGUE[type_].fields}
    return [
        *(f"{type_}: {name} is not promised" for name in data.keys() - known),
        *(f"{type_}: {error.instance_path} {error.message}" for error in _VALIDATORS[type_].iter_errors(dict(data))),
    ]


def announced(engine: Engine) -> list[tuple[str, dict[str, Any]]]:
    """(type, data) of every event of a database, in order."""
    if not is_there(engine):
        return []
    columns = tables.outbox.c
    with reading(engine) as connection:
        rows = connection.execute(select(columns.type, columns.payload).order_by(columns.project, columns.sequence))
        return [(type_, data_of(type_, json.loads(payload))) for type_, payload in rows]


def check_announced(engine: Engine) -> None:
    """Refuse a database that announced something else than the catalogue has."""
    assert [] == [problem for type_, data in announced(engine) for problem in problems_of(type_, data)]
