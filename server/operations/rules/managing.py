"""Manage rules: write them, look at them and at what they did, turn them on and off, and try them."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, select

from server.core.access import Scope
from server.core.actions.catalogue import CATALOGUE as ACTIONS
from server.core.actions.values import ENVIRONMENT, Asked
from server.core.announcing.catalogue import CATALOGUE as EVENTS
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound, Problem, Stale
from server.core.rules.rules import Act, Definition, Deliver, RuleState, RunState
from server.operations.rules.compiling import Ready, asked_of, check_definition
from server.operations.rules.finding import tell_events
from server.operations.rules.telling import tell
from server.operations.writes import Outcome, Write, Writer, require, require_within
from server.store.engine import reading
from server.store.outbox import event_by_id, last_event
from server.store.projects import read_project
from server.store.rule_runs import StoredRun, drop_waiting, list_runs, waiting
from server.store.rules import StoredRule, delete_rule, find_rule, insert_rule, list_rules, read_rule, save_rule
from server.store.turns import take_turn
from webhooks.errors import RenderFailed
from webhooks.states import EndpointState
from webhooks.tables import endpoints

ID_BYTES: Final = 8
ENVELOPE_FIELDS: Final = ("type", "data")
"""That a pasted event must have."""


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class RuleWritten:
    """A rule after what was done to it."""

    rule: StoredRule
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would do because of an event."""

    event: Mapping[str, Any]
    """The envelope."""

    wanted: bool
    problem: str = ""
    """Why its expression gave no answer, or why nothing could be made of the event."""

    asked: Asked | None = None
    endpoint_id: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one database. Writes raise PermissionDenied."""

    writer: Writer

    def create(self, project: str, definition: Definition, write: Write, *, enabled: bool = True) -> RuleWritten:
        """Begin to answer what happens from now on. Errors: InvalidDefinition; NotFound; TooLarge."""
        check_definition(definition, project)
        _require(project, definition, write)

        def work(connection: Connection) -> RuleWritten:
            read_project(connection, project)
            _check_endpoint(connection, project, definition)
            id = _id_of(write)
            known = find_rule(connection, project, id)
            if known is not None:
                # The same request, sent again.
                return RuleWritten(known, Outcome.UNCHANGED)
            rule = StoredRule(
                project=project,
                id=id,
                definition=definition,
                author=write.principal.actor,
                grants=write.principal.grants,
                # Behind the event that tells of the rule itself.
                since_sequence=last_event(connection, project) + 1,
                created_at=write.now,
                updated_at=write.now,
                state=RuleState.ENABLED if enabled else RuleState.DISABLED,
                why="" if enabled else "not enabled yet",
            )
            insert_rule(connection, rule)
            _tell(connection, rule, "created", write)
            return RuleWritten(rule, Outcome.APPLIED)

        return self._carried_out(project, work, write)

    def update(self, project: str, id: str, changed: Callable[[Definition], Definition], write: Write) -> RuleWritten:
        """Set what a rule answers and does; it acts as who wrote it last. Errors: as `create`; Stale."""

        def work(connection: Connection) -> RuleWritten:
            before = _read(connection, project, id, write)
            definition = changed(before.definition)
            check_definition(definition, project)
            _require(project, definition, write)
            _check_endpoint(connection, project, definition)
            if definition == before.definition:
                return RuleWritten(before, Outcome.UNCHANGED)
            author, grants = write.principal.actor, write.principal.grants
            after = replace(before, definition=definition, author=author, grants=grants, updated_at=write.now)
            after = save_rule(connection, before, after)
            _tell(connection, after, "updated", write, before)
            return RuleWritten(after, Outcome.APPLIED)

        require(write.principal, write.action, Scope(project))
        return self._carried_out(project, work, write)

    def enable(self, project: str, id: str, write: Write, *, enabled: bool) -> RuleWritten:
        """Let a rule answer what happens from now on, or nothing any more. Errors: NotFound; Stale."""

        def work(connection: Connection) -> RuleWritten:
            before = _read(connection, project, id, write)
            state = RuleState.ENABLED if enabled else RuleState.DISABLED
            if before.state is state:
                return RuleWritten(before, Outcome.UNCHANGED)
            if enabled:
                # Whoever lets it go on must be allowed what it does, but does not become its author.
                _require(project, before.definition, write)
            after = replace(
                before,
                state=state,
                why="" if enabled else write.reason or f"disabled by {write.principal.actor}",
                health=before.health.after_success(),
                since_sequence=last_event(connection, project) + 1 if enabled else before.since_sequence,
                updated_at=write.now,
            )
            after = save_rule(connection, before, after)
            if not enabled:
                drop_waiting(connection, project, id, why="the rule was disabled", now=write.now)
            _tell(connection, after, state.value, write, before)
            return RuleWritten(after, Outcome.APPLIED)

        require(write.principal, write.action, Scope(project))
        return self._carried_out(project, work, write)

    def delete(self, project: str, id: str, write: Write) -> RuleWritten:
        """Forget a rule, and what it did. Errors: NotFound; Stale."""

        def work(connection: Connection) -> RuleWritten:
            before = _read(connection, project, id, write)
            delete_rule(connection, project, id)
            _tell(connection, before, "deleted", write, before)
            return RuleWritten(before, Outcome.APPLIED)

        require(write.principal, write.action, Scope(project))
        return self._carried_out(project, work, write)

    def read(self, project: str, id: str) -> tuple[StoredRule, int]:
        """One rule, and how many of its runs wait. Errors: NotFound."""
        with reading(self.writer.engine) as connection:
            read_project(connection, project)
            return read_rule(connection, project, id), waiting(connection, project).get(id, 0)

    def list_all(self, project: str) -> tuple[list[StoredRule], Mapping[str, int]]:
        """All of a project, and how many of their runs wait. Errors: NotFound for the project."""
        with reading(self.writer.engine) as connection:
            read_project(connection, project)
            return list_rules(connection, project), waiting(connection, project)

    def runs(
        self, project: str, id: str, *, states: tuple[RunState, ...] = (), before: int | None = None, limit: int = 100
    ) -> list[StoredRun]:
        """What a rule does and has done, the newest event first. Errors: NotFound."""
        with reading(self.writer.engine) as connection:
            read_rule(connection, project, id)
            return list_runs(connection, project, id, states=states, before=before, limit=limit)

    def find(self, project: str, id: str) -> Definition:
        """What somebody decided of a rule. Errors: NotFound."""
        with reading(self.writer.engine) as connection:
            return read_rule(connection, project, id).definition

    def try_on(
        self, project: str, definition: Definition, *, event_id: str = "", event: Mapping[str, Any] | None = None
    ) -> Tried:
        """What a rule would do because of an event of the project, or one that is made up; nothing is done.

        Errors: InvalidDefinition; InvalidRequest; NotFound for an event.
        """
        ready = check_definition(definition, project)
        if (event is None) == (not event_id):
            raise InvalidRequest("name an event by its id, or give one, and not both")
        if event is not None:
            return _tried(ready, _made_up(event, project), (), ())
        with reading(self.writer.engine) as connection:
            stored = event_by_id(connection, project, event_id)
            if stored is None:
                raise NotFound(f"event {event_id!r} is not in project {project!r}, or not any more")
            (told,) = tell_events(connection, project, [stored])
        return _tried(ready, told.envelope, tuple(told.tags), tuple(told.owners))

    def _carried_out(self, project: str, work: Callable[[Connection], RuleWritten], write: Write) -> RuleWritten:
        found: list[RuleWritten] = []

        def tried(connection: Connection) -> RuleWritten:
            found.append(work(connection))
            if write.dry_run:
                raise _TakenBack
            return found[0]

        try:
            return take_turn(self.writer.engine, f"project/{project}", tried)
        except _TakenBack:
            unchanged = found[0].outcome is Outcome.UNCHANGED
            return found[0] if unchanged else replace(found[0], outcome=Outcome.WOULD_APPLY)


def _require(project: str, definition: Definition, write: Write) -> None:
    """Refuse whoever may not do by hand what the rule is to do. Errors: PermissionDenied."""
    require(write.principal, write.action, Scope(project))
    if not isinstance(definition.then, Act):
        return
    action = ACTIONS[definition.then.action]
    environment = definition.then.inputs.get(ENVIRONMENT)
    if isinstance(environment, str) and environment and "{" not in environment:
        require(write.principal, action.permission, Scope(project, environment))
    else:
        # Where it acts is known when it does, and asked then.
        require_within(write.principal, action.permission, project)


def _check_endpoint(connection: Connection, project: str, definition: Definition) -> None:
    if not isinstance(definition.then, Deliver):
        return
    id = definition.then.endpoint_id
    query = select(endpoints.c.state).where(endpoints.c.id == id, endpoints.c.project == project)
    state = connection.execute(query).scalar()
    if state in (None, EndpointState.GONE):
        problem = Problem("/then/endpoint_id", f"there is no endpoint {id[:80]!r} in project {project!r}")
        raise InvalidDefinition([problem])


def _read(connection: Connection, project: str, id: str, write: Write) -> StoredRule:
    read_project(connection, project)
    before = read_rule(connection, project, id)
    if write.expected_version not in (None, before.version):
        raise Stale(f"rule {id!r} has version {before.version}, expected {write.expected_version}")
    return before


def _id_of(write: Write) -> str:
    if not write.request_id:
        return f"rule_{secrets.token_hex(ID_BYTES)}"
    # The same for a request that is sent again.
    named = f"{write.principal.actor}\0{write.request_id}"
    return f"rule_{hashlib.sha256(named.encode('utf-8', 'backslashreplace')).hexdigest()[: 2 * ID_BYTES]}"


def _tell(connection: Connection, rule: StoredRule, word: str, write: Write, before: StoredRule | None = None) -> None:
    actor, reason, cause = write.principal.actor, write.reason, write.cause
    tell(connection, rule, word, actor=actor, now=write.now, before=before, reason=reason, cause=cause)


def _made_up(event: Mapping[str, Any], project: str) -> dict[str, Any]:
    """An envelope of what somebody made up, with all that one has. Errors: InvalidRequest."""
    missing = [name for name in ENVELOPE_FIELDS if name not in event]
    if missing or not isinstance(event.get("data"), Mapping):
        raise InvalidRequest('an event has a type and data, such as {"type": "flag.stale", "data": {"flag_key": "a"}}')
    if event["type"] not in EVENTS:
        raise InvalidRequest(f"no event is called {str(event['type'])[:80]!r}")
    usual = {
        "id": "evt_made_up",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "environment": "",
        "sequence": 0,
        "actor": {"type": "", "id": "", "name": ""},
        "causation_id": None,
        "hops": 0,
        "links": {},
    }
    return {**usual, **event, "project": project}


def _tried(ready: Ready, envelope: Mapping[str, Any], tags: tuple[str, ...], owners: tuple[str, ...]) -> Tried:
    data = envelope["data"]
    own = data.get("owner")
    wanted, problem = ready.wants(envelope, tags or data.get("tags") or (), owners or ((own,) if own else ()))
    if not wanted:
        return Tried(envelope, wanted, problem)
    if isinstance(ready.definition.then, Deliver):
        return Tried(envelope, wanted, endpoint_id=ready.definition.then.endpoint_id)
    try:
        return Tried(envelope, wanted, asked=asked_of(ready, envelope, "try"))
    except (InvalidDefinition, RenderFailed) as error:
        return Tried(envelope, wanted, str(error))
