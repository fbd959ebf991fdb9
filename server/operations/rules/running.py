"""Have rules answer events, each event once for each rule, whoever crashes and however many servers there are.

A run is claimed with a lease and done outside of any transaction, with an idempotency key of the rule and the event: so
one whose outcome nobody kept is done again, and changes nothing then. What came of it is kept only by who still has the
claim, in one transaction with what is told of it.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine

from server.core.access import Principal
from server.core.actions.values import Asked, Causation, Done
from server.core.change_requests.approvals import WhoIs
from server.core.errors import FlagstaffError, StoreUnavailable
from server.core.rules.rules import RuleState, RunState, acting, retry_in_s
from server.operations.actions import HOPS_MAX
from server.operations.rules.compiling import ABOUT_RULES
from server.operations.rules.finding import Finding
from server.operations.rules.telling import tell, tell_failed
from server.store import failpoints
from server.store.causing import Causing, caused_by
from server.store.engine import database_now, reading, writing
from server.store.mapping import compact
from server.store.rule_runs import StoredRun, claim_runs, drop_waiting, finish, next_due, postpone, trim
from server.store.rules import StoredRule, find_rule, projects_behind, save_health, save_rule
from webhooks.outbox import Announced, deliver_to
from webhooks.states import EndpointState

CLAIMED_AT_ONCE: Final = 8
LEASE_S: Final = 60.0
"""A run that nobody finished for so long is taken up again; longer than one is waited for."""

WAIT_S: Final = 20.0
RESULT_LINES_MAX: Final = 20
TRIM_EVERY: Final = 100
"""Events after which the oldest runs of a rule are forgotten."""

COME: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""An instant that has come: there is something to look at."""

Do: TypeAlias = Callable[[Asked, Principal], "Future[Done]"]
"""Begins to have an action done."""

log = logging.getLogger("flagstaff.rules")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of trying a run."""

    state: RunState
    text: str = ""
    """JSON of one that is done, else why it is not."""

    retry_in_s: float | None = None
    is_told: bool = True
    """Whether others are told that it failed."""


@dataclass(slots=True)
class RunningRules:
    """Timed work: has the rules of one database answer events."""

    engine: Engine
    do: Do
    who_is: WhoIs
    name: str = "rules"
    finding: Finding = field(init=False)

    def __post_init__(self) -> None:
        """What finds events works on the same database."""
        self.finding = Finding(self.engine)

    def next_at(self, connection: Connection) -> datetime | None:
        """When a run is due, or at once where events were not looked at."""
        return COME if projects_behind(connection) else next_due(connection)

    def carry_on(self, _now: datetime) -> None:
        """Look at what happened, and do what is due. Errors: StoreUnavailable, StoreCorrupt."""
        self.finding.look()
        while self.run_some():
            pass

    def run_some(self) -> int:
        """Do some of what is due. Shapes: how many runs were taken up. Errors: StoreUnavailable, StoreCorrupt."""
        claim = uuid.uuid4().hex
        with writing(self.engine, about="rule-runs", tells=False) as connection:
            now = database_now(connection)
            runs = claim_runs(connection, claim=claim, lease_s=LEASE_S, now=now, limit=CLAIMED_AT_ONCE)
        failpoints.reach("rules.claimed")
        until = time.monotonic() + WAIT_S
        begun = [(run, self._begin(run)) for run in runs]
        for run, begin in begun:
            outcome = _awaited(run, begin, until - time.monotonic()) if isinstance(begin, Future) else begin
            failpoints.reach("rules.done")
            self._keep(run, outcome)
        return len(runs)

    def _begin(self, run: StoredRun) -> "Future[Done] | _Outcome":
        with reading(self.engine) as connection:
            rule = find_rule(connection, run.project, run.rule)
        if rule is None or rule.state is RuleState.DISABLED:
            return _Outcome(RunState.REFUSED, "the rule does not answer events any more", is_told=False)
        if run.hops >= HOPS_MAX:
            return _looped(run)
        if not run.request:
            return _Outcome(RunState.FAILED, run.result)
        request = json.loads(run.request)
        if "endpoint_id" in request:
            return _Outcome(RunState.DONE)
        try:
            author = self.who_is(rule.author)
            principal = acting(rule.id, rule.grants, None if author is None else author.grants)
            return self.do(_asked(run, request), principal)
        except FlagstaffError as error:
            return _failed(run, error)

    def _keep(self, run: StoredRun, outcome: _Outcome) -> None:
        """Keep what came of a run."""
        causing = Causing(run.event, run.hops + 1, "")
        with caused_by(causing), writing(self.engine, about=f"project/{run.project}") as connection:
            now = database_now(connection)
            if outcome.state is RunState.DONE and not outcome.text:
                outcome = _delivered(connection, run, now)
            if outcome.retry_in_s is not None:
                postpone(connection, run, result=outcome.text, due_at=now + timedelta(seconds=outcome.retry_in_s))
                return
            if not finish(connection, run, state=outcome.state, result=outcome.text, now=now):
                return
            if outcome.state is RunState.DONE:
                _forgive(connection, run)
            elif outcome.is_told:
                _fail(connection, run, outcome.text, now)
            if run.sequence % TRIM_EVERY == 0:
                trim(connection, run.project, run.rule)
        if outcome.state is not RunState.DONE:
            extra = {"rule": run.rule, "event": run.event, "error": outcome.text}
            log.warning("a rule could not do its work", extra=extra)


def _asked(run: StoredRun, request: Mapping[str, Any]) -> Asked:
    return Asked(
        request["action"],
        request["inputs"],
        reason=request["reason"],
        cause=run.event,
        idempotency_key=f"{run.rule}:{run.event}",
        causation=Causation(run.event, run.hops),
    )


def _looped(run: StoredRun) -> _Outcome:
    told = (
        f"{run.hops} automations led here, one after the other, and {HOPS_MAX} are the most: they seem to answer one "
        "another in a loop"
    )
    # What tells of it has led one further: no rule may go on telling of that.
    return _Outcome(RunState.REFUSED, told, is_told=not run.event_type.startswith(ABOUT_RULES))


def _failed(run: StoredRun, error: Exception) -> _Outcome:
    # What is no error of ours may hold anything.
    told = str(error) if isinstance(error, FlagstaffError) else f"it failed by {type(error).__name__}"
    return _Outcome(RunState.FAILED, told, retry_in_s(run.attempt_count, error))


def _awaited(run: StoredRun, begun: "Future[Done]", wait_s: float) -> _Outcome:
    try:
        done = begun.result(max(0.0, wait_s))
    except TimeoutError:
        # It may be done all the same; then the next attempt gets its answer.
        return _failed(run, StoreUnavailable(f"it was not done within {WAIT_S:g} s"))
    except Exception as error:
        if not isinstance(error, FlagstaffError):
            log.error("a rule's action failed", exc_info=error)
        return _failed(run, error)
    told = {
        "status": done.status.value,
        "action_id": done.action_id,
        "event_ids": list(done.event_ids),
        "changes": list(done.changes[:RESULT_LINES_MAX]),
        "warnings": list(done.warnings[:RESULT_LINES_MAX]),
        "change_request": done.change_request,
        "subject_id": done.subject_id,
    }
    return _Outcome(RunState.DONE, compact(told))


def _delivered(connection: Connection, run: StoredRun, now: datetime) -> _Outcome:
    """Make the delivery that a run comes to."""
    request = json.loads(run.request)
    event = Announced(run.event, run.sequence, run.event_type, request["ordering_key"])
    state = deliver_to(connection, event, request["endpoint_id"], project=run.project, now=now)
    if state in (None, EndpointState.GONE):
        return _Outcome(RunState.FAILED, f"there is no endpoint {request['endpoint_id']!r} any more")
    status = "delivering" if state is EndpointState.ENABLED else "missed: the endpoint is disabled"
    return _Outcome(RunState.DONE, compact({"status": status, "endpoint_id": request["endpoint_id"]}))


def _forgive(connection: Connection, run: StoredRun) -> None:
    rule = find_rule(connection, run.project, run.rule)
    if rule is not None and rule.health.failing_since is not None:
        save_health(connection, run.project, run.rule, rule.health.after_success())


def _fail(connection: Connection, run: StoredRun, told: str, now: datetime) -> None:
    """Tell that a run failed, and have a rule do nothing more that fails for long."""
    rule = find_rule(connection, run.project, run.rule)
    if rule is None:
        return
    failing = replace(rule, health=rule.health.after_failure(now))
    save_health(connection, run.project, run.rule, failing.health)
    tell_failed(connection, rule, run, told, now=now)
    if failing.health.is_hopeless(now) and rule.state is RuleState.ENABLED:
        _disable(connection, failing, now)


def _disable(connection: Connection, rule: StoredRule, now: datetime) -> None:
    why = f"every run has failed since {rule.health.failing_since:%Y-%m-%d %H:%M} UTC"
    after = save_rule(connection, rule, replace(rule, state=RuleState.DISABLED, why=why, updated_at=now))
    drop_waiting(connection, rule.project, rule.id, why=f"the rule was disabled: {why}", now=now)
    tell(connection, after, "disabled", actor=f"rule:{rule.id}", now=now, before=rule, reason=why)
