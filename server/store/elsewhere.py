"""Carry a flag's shared part into the other environments that configure it, or refuse where it would not fit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, bindparam, exists, select

from server.core.announcing.naming import announced_type
from server.core.audit import canonical_json
from server.core.definitions.flagsets import check_flag_set
from server.core.definitions.problems import Problems, pointer
from server.core.environments import Environment
from server.core.events import FlagUpdated
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.store import tables
from server.store.environments import read_environment
from server.store.flagsets import in_parts
from server.store.mapping import FlagText, parse, parse_flag
from server.store.neighbourhood import ONE_BY_ONE_MAX, load_neighbourhood
from server.store.saving import Record
from server.store.statements import Statement
from server.store.sync_sizes import SyncCount, count_shared

_COLUMNS: Final = tables.flag_configs.c
_ENVIRONMENT: Final = tables.environments.c
# From the environments, which are few: asked for the flag's rows themselves, SQLite goes through those of all flags.
_ELSEWHERE: Final = Statement(
    select(_ENVIRONMENT.key)
    .where(_ENVIRONMENT.project == bindparam("own_project"), _ENVIRONMENT.key != bindparam("own_environment"))
    .where(
        exists().where(
            _COLUMNS.project == _ENVIRONMENT.project,
            _COLUMNS.environment == _ENVIRONMENT.key,
            _COLUMNS.key == bindparam("own_key"),
        )
    )
    .order_by(_ENVIRONMENT.key)
)


@dataclass(frozen=True, slots=True)
class SharedChange:
    """The shared part of one flag, as it was and as it will be."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What shared parts do to one other environment."""

    revision: int
    """Before them."""

    before: FlagSet
    after: FlagSet
    records: tuple[Record, ...]
    events: tuple[FlagUpdated, ...]
    count: SyncCount

    @property
    def environment(self) -> Environment:
        """The environment as it is stored."""
        return self.before.environment


def plan_elsewhere(
    connection: Connection,
    here: Environment,
    *,
    shared: Sequence[SharedChange],
    replace_variants: bool,
    problems: Problems,
) -> list[Elsewhere]:
    """What a change of shared parts means for the project's other environments; reports where it would not fit."""
    by_key = {change.key: change for change in shared}
    planned: list[Elsewhere] = []
    users: dict[str, list[str]] = {}
    for environment, keys in sorted(_configured_elsewhere(connection, here, keys=by_key).items()):
        for key in keys:
            users.setdefault(key, []).append(environment)
        changes = [by_key[key] for key in keys]
        planned.append(_plan_one(connection, here.project, environment, changes=changes, problems=problems))
    if not replace_variants:
        for key, environments in users.items():
            _refuse_new_values(by_key[key], environments, problems)
    return planned


def _configured_elsewhere(
    connection: Connection, here: Environment, *, keys: Mapping[str, SharedChange]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if len(keys) <= ONE_BY_ONE_MAX:
        of = {"own_project": here.project, "own_environment": here.key}
        rows: Iterable[Any] = [
            (environment, key)
            for key in sorted(keys)
            for (environment,) in _ELSEWHERE.all(connection, **of, own_key=key)
        ]
    else:
        query = select(_COLUMNS.environment, _COLUMNS.key).where(
            _COLUMNS.project == here.project, _COLUMNS.environment != here.key
        )
        parts = in_parts(query.order_by(_COLUMNS.environment, _COLUMNS.key), _COLUMNS.key, keys)
        rows = chain.from_iterable(connection.execute(part) for part in parts)
    for environment, key in rows:
        found.setdefault(environment, []).append(key)
    return found


def _plan_one(
    connection: Connection, project: str, environment: str, *, changes: Sequence[SharedChange], problems: Problems
) -> Elsewhere:
    stored = read_environment(connection, project=project, environment=environment)
    near = load_neighbourhood(
        connection, stored.environment, subjects={("flag", change.key): frozenset() for change in changes}
    )
    # What is damaged already cannot break; it stays in quarantine until it is put again.
    sound = [change for change in changes if ("flag", change.key) not in near.damaged]
    found = Problems()
    definitions: dict[str, FlagDefinition] = {}
    for change in sound:
        text = FlagText(change.after, near.config_texts[change.key])
        definition = parse_flag(change.key, parse(text.merged), problems=found)
        if definition is not None:
            definitions[change.key] = definition
    before = near.flag_set
    after = replace(before, flags={**before.flags, **definitions})
    updated = {key: FlagUpdated(key, before.flags[key], definition) for key, definition in definitions.items()}
    if not found.errors:
        found.add(check_flag_set(after, touched=[("flag", key) for key in definitions]))
    problems.add(
        replace(problem, message=f"in environment {environment!r}: {problem.message}") for problem in found.errors
    )
    return Elsewhere(
        stored.revision,
        before,
        after,
        tuple(
            _record(environment, stored.revision + 1, change, near.config_texts[change.key], updated.get(change.key))
            for change in sound
        ),
        tuple(updated.values()),
        # A set that is not sound may not even be possible to write out; it is refused.
        count_shared(stored, near, after, changed=() if found.errors else definitions),
    )


def _record(environment: str, revision: int, change: SharedChange, config: str, event: FlagUpdated | None) -> Record:
    before, after = FlagText(change.before, config), FlagText(change.after, config)
    announced = FlagUpdated.type if event is None else announced_type(event)
    return Record(environment, revision, FlagUpdated.type, "flag", change.key, before.merged, after.merged, announced)


def _refuse_new_values(change: SharedChange, environments: Sequence[str], problems: Problems) -> None:
    before, after = ((parse(text) or {}).get("variants", {}) for text in (change.before, change.after))
    for name in before.keys() & after.keys():
        if canonical_json(before[name]) != canonical_json(after[name]):
            path = pointer(pointer("/flags", change.key) + "/variants", name)
            problems.error(
                path,
                f"another value would also be served in {', '.join(environments)}; add a variant beside it, "
                "or allow variants to be replaced",
            )
