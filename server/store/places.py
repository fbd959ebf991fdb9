"""Write projects and environments themselves, and take them away.

Rows of deleted ones stay, marked as such: revisions and audit entries belong to them, and counters must go on when a
key is used again, so that no client is ever sent back to a lower revision.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, literal, null, select, update

from server.core.access import Grant, Scope
from server.core.environments import Environment, Project
from server.core.errors import Refused
from server.core.events import (
    EnvironmentCreated,
    EnvironmentDeleted,
    EnvironmentUpdated,
    Event,
    ProjectCreated,
    ProjectDeleted,
    ProjectUpdated,
)
from server.store import action_tables, tables
from server.store.environments import last_revision
from server.store.mapping import compact, protection_document
from server.store.projects import was_deleted
from server.store.saving import delete_unconfigured
from server.store.tokens import load_tokens
from webhooks import subscribed

TOKENS_SHOWN_MAX: Final = 5


def save_project_event(connection: Connection, event: Event, *, now: datetime) -> None:
    """Write what an event did to a project. Errors: Refused when it is to be deleted with environments or tokens."""
    match event:
        case ProjectCreated():
            _create_project(connection, event.after, now)
        case ProjectUpdated():
            values = {"name": event.after.name, "description": event.after.description}
            _update_project(connection, event.key, **values)
        case ProjectDeleted():
            _refuse_with_environments(connection, event.key)
            _refuse_with_hooks(connection, Scope(event.key))
            _refuse_with_tokens(connection, Scope(event.key), now=now)
            _update_project(connection, event.key, deleted_at=now)
            triggers = action_tables.triggers
            connection.execute(delete(triggers).where(triggers.c.project == event.key))


def save_environment_event(connection: Connection, event: Event, environment: Environment, *, now: datetime) -> None:
    """Write what an event did to an environment itself. Errors: Refused when tokens are bound to one that goes."""
    match event:
        case EnvironmentCreated():
            row = _row(environment)
            existed = last_revision(connection, project=environment.project, environment=environment.key) > 0
            if existed:
                _update_environment(connection, environment, **row, created_at=now, deleted_at=None)
            else:
                connection.execute(insert(tables.environments), [{**row, "revision": 0, "created_at": now}])
        case EnvironmentUpdated():
            _update_environment(connection, environment, **_row(environment))
        case EnvironmentDeleted():
            _refuse_with_hooks(connection, Scope(environment.project, environment.key))
            _refuse_with_tokens(connection, Scope(environment.project, environment.key), now=now)
            _update_environment(connection, environment, deleted_at=now, sync_total=None)


def empty_environment(connection: Connection, environment: Environment, *, revision: int, now: datetime) -> None:
    """Take everything out of an environment, and note of each thing that this revision removed it."""
    configs, segments = tables.flag_configs, tables.segments
    flags = [key for (key,) in connection.execute(select(configs.c.key).where(_in(configs, environment)))]
    for kind, table in (("flag", configs), ("segment", segments)):
        removed = select(
            table.c.project,
            table.c.environment,
            literal(revision),
            literal(kind),
            table.c.key,
            null(),
            literal(now, tables.Instant()),
        ).where(_in(table, environment))
        names = ["project", "environment", "revision", "kind", "key", "document", "at"]
        connection.execute(insert(tables.revisions).from_select(names, removed))
    for table in (tables.references, configs, segments, tables.segment_chunks, tables.metric_sums):
        connection.execute(delete(table).where(_in(table, environment)))
    _empty_guards(connection, environment)
    # An address that was good there must do nothing in another place of the same name.
    connection.execute(delete(action_tables.triggers).where(_in(action_tables.triggers, environment)))
    delete_unconfigured(connection, environment.project, keys=flags)


def _empty_guards(connection: Connection, environment: Environment) -> None:
    triggers, policies = tables.rollback_triggers, tables.rollback_policies
    mine = select(policies.c.key).where(_in(policies, environment))
    connection.execute(delete(triggers).where(triggers.c.project == environment.project, triggers.c.policy.in_(mine)))
    for table in (policies, tables.guards):
        connection.execute(delete(table).where(_in(table, environment)))


def _create_project(connection: Connection, project: Project, now: datetime) -> None:
    values = {"name": project.name, "description": project.description, "created_at": now}
    if was_deleted(connection, project.key):
        _update_project(connection, project.key, **values, deleted_at=None)
    else:
        connection.execute(insert(tables.projects), [{"key": project.key, **values, "event_sequence": 0}])


def _update_project(connection: Connection, key: str, **values: Any) -> None:
    connection.execute(update(tables.projects).where(tables.projects.c.key == key).values(values))


def _refuse_with_environments(connection: Connection, project: str) -> None:
    columns = tables.environments.c
    query = select(columns.key).where(columns.project == project, columns.deleted_at.is_(None)).order_by(columns.key)
    left = [key for (key,) in connection.execute(query)]
    if left:
        raise Refused(f"project {project!r} still has the environments {', '.join(left)}; delete them first")


def _refuse_with_tokens(connection: Connection, scope: Scope, *, now: datetime) -> None:
    """Errors: Refused. A token that is bound to a place would open a later one of the same key.

    Those that are managed in the place itself end with it, and are in nobody's way.
    """
    bound = [
        stored.token.id
        for stored in load_tokens(connection, ended_after=now)
        if not _is_in(stored.token.home, scope) and any(_is_bound(grant, scope) for grant in stored.token.grants)
    ]
    if bound:
        shown = ", ".join(sorted(bound)[:TOKENS_SHOWN_MAX])
        place = "/".join(name for name in (scope.project, scope.environment) if name)
        raise Refused(
            f"{len(bound)} tokens are bound to {place!r} ({shown}) and would open a later one of that key; revoke them "
            "first"
        )


def _refuse_with_hooks(connection: Connection, scope: Scope) -> None:
    """Errors: Refused. A hook would be told of a later place of the same key, whoever may look into that."""
    found = subscribed.list_endpoints(connection, scope.project)
    bound = [each.id for each in found if not scope.environment or scope.environment in each.filter.environments]
    if bound:
        shown = ", ".join(bound[:TOKENS_SHOWN_MAX])
        place = "/".join(name for name in (scope.project, scope.environment) if name)
        raise Refused(f"{len(bound)} hooks are told of {place!r} ({shown}); delete them, or change their filter, first")


def _is_in(home: Scope, scope: Scope) -> bool:
    return home.project == scope.project and scope.environment in ("", home.environment)


def _is_bound(grant: Grant, scope: Scope) -> bool:
    return grant.project == scope.project and scope.environment in ("", grant.environment)


def _row(environment: Environment) -> dict[str, Any]:
    return {
        "project": environment.project,
        "key": environment.key,
        "name": environment.name,
        "bucketing": environment.bucketing.value,
        "critical": environment.critical,
        "metadata_document": compact(dict(environment.metadata)),
        "source": environment.source,
        "sync": environment.sync,
        "protection_document": compact(protection_document(environment)),
    }


def _update_environment(connection: Connection, environment: Environment, **values: Any) -> None:
    columns = tables.environments.c
    here = (columns.project == environment.project) & (columns.key == environment.key)
    connection.execute(update(tables.environments).where(here).values(values))


def _in(table: Any, environment: Environment) -> Any:
    return (table.c.project == environment.project) & (table.c.environment == environment.key)
