"""Find which events rules are to answer, in their order, and make of each what is asked for.

What is found is kept in the transaction that says how far was looked: nothing is found twice, and nothing is passed
over. What is asked for is made then, of the event as it was told, so that a later edit of the rule or a forgotten event
changes nothing of it.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine

from server.core.errors import InvalidDefinition
from server.core.limits import RULE_RUNS_WAITING_MAX
from server.core.rules.rules import Deliver
from server.operations.deliveries.fanning import flag_of, ordering_key
from server.operations.feed import tellable
from server.operations.rules.compiling import Ready, asked_of, make_ready
from server.store import failpoints
from server.store.engine import database_now, reading, writing
from server.store.flags import flag_owners
from server.store.mapping import compact
from server.store.outbox import StoredEvent, last_event, next_events
from server.store.rule_runs import NewRun, add_runs, waiting
from server.store.rules import StoredRule, enabled_rules, projects_behind, read_look, save_look
from webhooks import envelope
from webhooks.errors import RenderFailed, WebhookError

LOOKED_AT_ONCE: Final = 200
"""Events of a project that are held against its rules in one transaction."""

log = logging.getLogger("flagstaff.rules")


@dataclass(frozen=True, slots=True)
class Told:
    """An event as rules see it."""

    event: StoredEvent
    envelope: Mapping[str, Any]
    tags: Sequence[str]
    owners: Sequence[str]
    """Of what it is about: its own, or those that its flag has now."""


@dataclass(slots=True)
class Finding:
    """Finds what the rules of one database are to do."""

    engine: Engine
    _ready: dict[tuple[str, str], tuple[int, Ready | None]] = field(default_factory=dict)
    """Rule -> its version, made ready; None for one that this version of the program cannot read."""

    _problems: dict[str, str] = field(default_factory=dict)
    """Rule -> the problem of its expression that was logged last."""

    def look(self) -> None:
        """Look at all that happened. Errors: StoreUnavailable, StoreCorrupt."""
        with reading(self.engine) as connection:
            behind = projects_behind(connection)
        for project in behind:
            while self._look_on(project):
                pass

    def _look_on(self, project: str) -> bool:
        """Look at some events of a project; whether there may be more."""
        with writing(self.engine, about=f"rules/{project}", tells=False) as connection:
            looked, last = read_look(connection, project), last_event(connection, project)
            rules, damaged = enabled_rules(connection, project)
            for id in damaged:
                log.warning("a rule cannot be read; write it again", extra={"rule": id, "project": project})
            # What came before every rule is nobody's, and may be years of it.
            start = max(looked, min((rule.since_sequence for rule in rules), default=last))
            events = next_events(connection, project, start, limit=LOOKED_AT_ONCE)
            add_runs(connection, self._runs(connection, project, rules, events), now=database_now(connection))
            save_look(connection, project, events[-1].sequence if events else max(start, last))
            failpoints.reach("rules.looked")
        return len(events) == LOOKED_AT_ONCE

    def _runs(
        self, connection: Connection, project: str, rules: Sequence[StoredRule], events: Sequence[StoredEvent]
    ) -> list[NewRun]:
        made = [(rule, self._made_ready(rule)) for rule in rules]
        count = Counter(waiting(connection, project))
        runs: list[NewRun] = []
        for told in tell_events(connection, project, events):
            for rule, ready in made:
                if ready is not None and told.event.sequence > rule.since_sequence and self._wants(rule, ready, told):
                    count[rule.id] += 1
                    runs.append(_new_run(rule, ready, told, has_room=count[rule.id] <= RULE_RUNS_WAITING_MAX))
        return runs

    def _wants(self, rule: StoredRule, ready: Ready, told: Told) -> bool:
        wanted, problem = ready.wants(told.envelope, told.tags, told.owners)
        if problem and self._problems.get(rule.id) != problem:
            self._problems[rule.id] = problem
            log.warning("a rule's expression gave no answer", extra={"rule": rule.id, "error": problem})
        return wanted

    def _made_ready(self, rule: StoredRule) -> Ready | None:
        known = self._ready.get((rule.project, rule.id))
        if known is None or known[0] != rule.version:
            try:
                made: Ready | None = make_ready(rule.definition)
            except WebhookError as error:
                # It was checked when it was accepted: another version of the program wrote it.
                log.warning("a rule does nothing", extra={"rule": rule.id, "error": str(error)})
                made = None
            known = rule.version, made
            self._ready[rule.project, rule.id] = known
        return known[1]


def tell_events(connection: Connection, project: str, events: Sequence[StoredEvent]) -> Iterator[Told]:
    """Events as rules see them, with the tags and owners of what they are about."""
    about = {event.id: flag_of(event) for event in events}
    owned = flag_owners(connection, project, {flag for flag in about.values() if flag})
    for event in events:
        told = envelope.envelope(tellable(event))
        tags, owner = owned.get(about[event.id], ((), ""))
        owner = told["data"].get("owner") or owner
        yield Told(event, told, told["data"].get("tags") or tags, (owner,) if owner else ())


def _new_run(rule: StoredRule, ready: Ready, told: Told, *, has_room: bool) -> NewRun:
    event, request, problem = told.event, "", ""
    try:
        if not has_room:
            problem = f"{RULE_RUNS_WAITING_MAX} runs of the rule wait already"
        elif isinstance(rule.definition.then, Deliver):
            request = compact({"endpoint_id": rule.definition.then.endpoint_id, "ordering_key": ordering_key(event)})
        else:
            asked = asked_of(ready, told.envelope, rule.id)
            request = compact({"action": asked.name, "inputs": dict(asked.inputs), "reason": asked.reason})
    except (InvalidDefinition, RenderFailed) as error:
        problem = str(error)
    hops = int(told.envelope["hops"])
    return NewRun(rule.project, rule.id, event.id, event.sequence, event.type, hops, request, problem)
