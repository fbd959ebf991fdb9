"""Keep rules: what somebody decided, as whom each acts, and how it does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.core.access import Grant
from server.core.change_requests.codec import read_value, write_value
from server.core.errors import NotFound, Stale, StoreCorrupt, TooLarge
from server.core.limits import RULE_BYTES_MAX, RULES_PER_PROJECT_MAX
from server.core.rules.documents import read_definition, write_definition
from server.core.rules.rules import Definition, Health, RuleState
from server.store import tables
from server.store.mapping import compact
from server.store.rule_tables import rule_looks, rule_runs, rules

_RULE: Final = rules.c


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it is kept."""

    project: str
    id: str
    definition: Definition
    author: str
    grants: tuple[Grant, ...]
    """What the author was allowed when they wrote it."""

    since_sequence: int
    created_at: datetime
    updated_at: datetime
    state: RuleState = RuleState.ENABLED
    why: str = ""
    health: Health = field(default_factory=Health)
    version: int = 1


@dataclass(frozen=True, slots=True)
class _Kept:
    grants: tuple[Grant, ...] = ()


def insert_rule(connection: Connection, rule: StoredRule) -> None:
    """Keep a new rule. Errors: TooLarge when it is, or when there are too many."""
    mine = select(func.count()).select_from(rules).where(_RULE.project == rule.project)
    count = connection.execute(mine).scalar_one()
    if count >= RULES_PER_PROJECT_MAX:
        raise TooLarge(
            f"project {rule.project!r} has {count} rules, at most {RULES_PER_PROJECT_MAX} are allowed; delete some"
        )
    # A bucket that was counted so long ago is full.
    new = {"project": rule.project, "id": rule.id, "tokens": 0.0, "counted_at_s": 0.0, "version": 1}
    connection.execute(insert(rules), {**new, **_row(rule)})


def save_rule(connection: Connection, before: StoredRule, after: StoredRule) -> StoredRule:
    """Keep a rule in place of what it was, as its next version. Errors: Stale when it changed since; TooLarge."""
    changed = connection.execute(
        update(rules)
        .where(_RULE.project == before.project, _RULE.id == before.id, _RULE.version == before.version)
        .values(**_row(after), version=before.version + 1)
    )
    if changed.rowcount != 1:
        raise Stale(f"rule {before.id!r} changed meanwhile; read it again and repeat")
    return read_rule(connection, before.project, before.id)


def save_health(connection: Connection, project: str, id: str, health: Health) -> None:
    """Keep how a rule does; that is no other version of it."""
    connection.execute(
        update(rules)
        .where(_RULE.project == project, _RULE.id == id)
        .values(failing_since=health.failing_since, failure_count=health.failure_count)
    )


def delete_rule(connection: Connection, project: str, id: str) -> None:
    """Forget a rule, and what it has done."""
    connection.execute(delete(rule_runs).where(rule_runs.c.project == project, rule_runs.c.rule == id))
    connection.execute(delete(rules).where(_RULE.project == project, _RULE.id == id))


def find_rule(connection: Connection, project: str, id: str) -> StoredRule | None:
    """One rule, or None. Errors: StoreCorrupt."""
    row = connection.execute(select(rules).where(_RULE.project == project, _RULE.id == id)).mappings().first()
    return None if row is None else _stored(row)


def read_rule(connection: Connection, project: str, id: str) -> StoredRule:
    """One rule. Errors: NotFound, StoreCorrupt."""
    found = find_rule(connection, project, id)
    if found is None:
        raise NotFound(f"rule {id!r} is not in project {project!r}")
    return found


def list_rules(connection: Connection, project: str) -> list[StoredRule]:
    """A project's rules, the oldest first. Errors: StoreCorrupt."""
    query = select(rules).where(_RULE.project == project).order_by(_RULE.created_at, _RULE.id)
    return [_stored(row) for row in connection.execute(query).mappings()]


def enabled_rules(connection: Connection, project: str) -> tuple[list[StoredRule], list[str]]:
    """Those of a project that answer events, and the ids of those that cannot be read."""
    query = select(rules).where(_RULE.project == project, _RULE.state == RuleState.ENABLED.value).order_by(_RULE.id)
    found: list[StoredRule] = []
    damaged: list[str] = []
    for row in connection.execute(query).mappings():
        try:
            found.append(_stored(row))
        except StoreCorrupt:
            damaged.append(row["id"])
    return found, damaged


def projects_behind(connection: Connection) -> list[str]:
    """Projects with rules that have not looked at everything that happened."""
    project = tables.projects.c
    query = (
        select(_RULE.project)
        .join(tables.projects, project.key == _RULE.project)
        .join(rule_looks, rule_looks.c.project == _RULE.project, isouter=True)
        .where(_RULE.state == RuleState.ENABLED.value)
        .where(project.event_sequence > _RULE.since_sequence)
        .where(project.event_sequence > func.coalesce(rule_looks.c.sequence, 0))
        .distinct()
        .order_by(_RULE.project)
    )
    return list(connection.execute(query).scalars())


def read_look(connection: Connection, project: str) -> int:
    """Up to which event a project's rules have looked."""
    query = select(rule_looks.c.sequence).where(rule_looks.c.project == project)
    return connection.execute(query).scalar() or 0


def save_look(connection: Connection, project: str, sequence: int) -> None:
    """Keep up to which event a project's rules have looked."""
    changed = connection.execute(update(rule_looks).where(rule_looks.c.project == project).values(sequence=sequence))
    if changed.rowcount == 0:
        connection.execute(insert(rule_looks), {"project": project, "sequence": sequence})


def check_size(definition: Definition) -> None:
    """Errors: TooLarge for a definition that is too long to be kept."""
    size = len(compact(write_definition(definition)).encode())
    if size > RULE_BYTES_MAX:
        raise TooLarge(f"the rule has {size} bytes, at most {RULE_BYTES_MAX} are allowed; make its inputs shorter")


def _row(rule: StoredRule) -> dict[str, Any]:
    check_size(rule.definition)
    return {
        "name": rule.definition.name,
        "document": compact(write_definition(rule.definition)),
        "state": rule.state.value,
        "why": rule.why,
        "author": rule.author,
        "grants": compact(write_value(_Kept(rule.grants))),
        "since_sequence": rule.since_sequence,
        "failing_since": rule.health.failing_since,
        "failure_count": rule.health.failure_count,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
    }


def _stored(row: Any) -> StoredRule:
    try:
        definition = read_definition(json.loads(row["document"]))
        grants: Sequence[Grant] = read_value(_Kept, json.loads(row["grants"])).grants
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored rule {row['id']!r} is damaged ({type(error).__name__}); write it again"
        ) from None
    return StoredRule(
        project=row["project"],
        id=row["id"],
        definition=definition,
        author=row["author"],
        grants=tuple(grants),
        since_sequence=row["since_sequence"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        state=RuleState(row["state"]),
        why=row["why"],
        health=Health(row["failing_since"], row["failure_count"]),
        version=row["version"],
    )
