"""List environments with the revision that each is at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Integer, bindparam, select, type_coerce

from server.core.definitions.fields import name_problem
from server.core.definitions.problems import shown
from server.core.environments import Bucketing, Environment
from server.core.errors import NotFound, StoreCorrupt
from server.store import tables
from server.store.mapping import ENVIRONMENT_COLUMNS, environment_from_row
from server.store.statements import Statement

_TABLE: Final = tables.environments.c
_SWITCHES: Final = ("critical", "sync")
# As they are stored: a value of another type must show as damaged, not fail inside the driver. What is not asked for,
# such as when the row was made, can harm nobody.
STORED: Final = (
    *(_TABLE[name] for name in ENVIRONMENT_COLUMNS if name not in _SWITCHES),
    *(type_coerce(_TABLE[name], Integer).label(name) for name in _SWITCHES),
    _TABLE.revision,
    _TABLE.sync_total,
)
_QUERY: Final = select(*STORED).where(_TABLE.deleted_at.is_(None))
_ONE: Final = Statement(_QUERY.where(_TABLE.project == bindparam("own_project"), _TABLE.key == bindparam("own_key")))
_NAMES: Final = tuple(column.key for column in _QUERY.selected_columns)
_SCHEMES: Final = frozenset(scheme.value for scheme in Bucketing)


@dataclass(frozen=True, slots=True)
class StoredEnvironment:
    """An environment and its last commit's revision."""

    environment: Environment
    revision: int
    sync_total: int | None = None
    """What its flags take of the text for in-process clients; None when that is not known."""


def _leave_out(_name: str, _why: str) -> None:
    """Say nothing of a damaged environment."""


def list_environments(
    connection: Connection, *, damaged: Callable[[str, str], None] = _leave_out
) -> list[StoredEnvironment]:
    """All environments of all projects, by project and key.

    A row that cannot be used is left out; `damaged` is told the name of its flag set, and why.
    """
    found: list[StoredEnvironment] = []
    for row in connection.execute(_QUERY.order_by(_TABLE.project, _TABLE.key)).mappings():
        try:
            found.append(_stored(row))
        except StoreCorrupt as error:
            damaged(f"{row['project']}/{row['key']}", str(error))
    return found


def find_environment(connection: Connection, *, project: str, environment: str) -> StoredEnvironment | None:
    """One environment, or None. Errors: StoreCorrupt when its row cannot be used."""
    row = _ONE.first(connection, own_project=project, own_key=environment)
    return None if row is None else stored_environment(row)


def stored_environment(row: Sequence[Any]) -> StoredEnvironment:
    """What a row of the columns STORED says. Errors: StoreCorrupt when it cannot be used."""
    return _stored(dict(zip(_NAMES, row, strict=True)))


def last_revision(connection: Connection, *, project: str, environment: str) -> int:
    """The revision of an environment's last commit, also of one that was deleted; 0 when there never was one."""
    query = select(_TABLE.revision).where(_TABLE.project == project, _TABLE.key == environment)
    return connection.execute(query).scalar() or 0


def read_environment(connection: Connection, *, project: str, environment: str) -> StoredEnvironment:
    """One environment. Errors: NotFound, naming those that exist; StoreCorrupt when its row cannot be used."""
    stored = find_environment(connection, project=project, environment=environment)
    if stored is None:
        known = ", ".join(each.environment.flag_set for each in list_environments(connection)[:10])
        raise NotFound(f"environment '{project}/{environment}' does not exist; there is: {known or 'none yet'}")
    return stored


def _stored(row: Mapping[Any, Any]) -> StoredEnvironment:
    problem = name_problem(row["project"]) or name_problem(row["key"])
    for name in ("name", "source", "metadata_document"):
        if not isinstance(row[name], str):
            problem = problem or f"its {name} is {shown(row[name])}, not a text"
    if row["bucketing"] not in _SCHEMES:
        problem = problem or f"its bucketing is {shown(row['bucketing'])}"
    if type(row["revision"]) is not int or row["revision"] < 0:
        problem = problem or f"its revision is {shown(row['revision'])}"
    if problem:
        place = shown(f"{row['project']}/{row['key']}")
        raise StoreCorrupt(f"the stored environment {place} is damaged ({problem}); mend its row, or restore a backup")
    total = row["sync_total"]
    return StoredEnvironment(environment_from_row(row), row["revision"], total if type(total) is int else None)
