"""Tell what happened to a release: in the audit trail, and in the outbox."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from server.core.errors import NotFound
from server.core.json import Json
from server.core.releases.progress import Event, Happening, Judged, Release
from server.core.releases.recipes import describe_patch, shares_of
from server.core.releases.timing import projected_end
from server.core.releases.walking import Told
from server.store.guards import read_guard
from server.store.occurrences import Occurrence, note
from server.store.releases import KIND, StoredRelease

TYPES: Final[Mapping[Happening, str]] = {
    Happening.CREATED: "release.created",
    Happening.REVISED: "release.updated",
    Happening.START_ASKED: "release.awaiting_start",
    Happening.APPROVED: "release.approved",
    Happening.STARTED: "release.started",
    Happening.WARNED: "release.warned",
    Happening.GO_ASKED: "release.go_asked",
    Happening.ANSWERED: "release.answered",
    Happening.APPROVAL_ASKED: "release.awaiting_approval",
    Happening.APPROVAL_NOT_ASKED: "release.approval_withdrawn",
    Happening.ADVANCED: "release.step_advanced",
    Happening.JUMPED: "release.step_jumped",
    Happening.PAUSED: "release.paused",
    Happening.RESUMED: "release.resumed",
    Happening.HELD: "release.held",
    Happening.BLOCKED: "release.blocked",
    Happening.DEADLINE_MISSED: "release.deadline_missed",
    Happening.ROLLED_BACK: "release.rolled_back",
    Happening.RESTARTED: "release.restarted",
    Happening.COMPLETED: "release.completed",
    Happening.ABORTED: "release.aborted",
}
"""What is told to others, by its public name; verdicts are in the release's own log, and come by the thousand."""


ANSWER: Final = "answer_release"
"""The action by which somebody outside answers."""


def tell(
    connection: Connection,
    stored: StoredRelease,
    told: Told,
    *,
    actor: str,
    cause: str,
    revisions: Mapping[str, int],
    event: Event | None = None,
) -> None:
    """Keep one thing that happened because of an event; nothing of what is for the log alone."""
    type_ = TYPES.get(told.happening)
    if type_ is None:
        return
    environments = stored.release.plan.environments()
    note(
        connection,
        Occurrence(
            stored.project,
            KIND,
            stored.id,
            type_,
            actor,
            stored.updated_at,
            {**_data(stored, told, revisions), **_judged(connection, stored, event), **_asked(stored, told)},
            environment=environments[0] if len(environments) == 1 else "",
            reason=told.text,
            cause=cause,
        ),
    )


def _data(stored: StoredRelease, told: Told, revisions: Mapping[str, int]) -> dict[str, Json]:
    release = stored.release
    plan, progress = release.plan, release.progress
    end, subjects, since = projected_end(release, stored.updated_at), plan.subjects(), progress.started_at
    return {
        "name": plan.name,
        "owner": progress.owner,
        "flagKey": subjects[0][1] if len({flag for _, flag in subjects}) == 1 else "",
        "durationS": None if since is None else int((stored.updated_at - since).total_seconds()),
        "state": progress.state.value,
        "releaseKind": plan.kind.value,
        "fromStep": told.from_step + 1,
        "toStep": told.to_step + 1,
        "stepCount": len(plan.steps),
        "stepName": plan.steps[told.to_step].name if 0 <= told.to_step < len(plan.steps) else "",
        "fromPercent": percent_at(release, told.from_step),
        "toPercent": percent_at(release, told.to_step),
        "nextAt": None if stored.next_at is None else stored.next_at.isoformat(),
        "projectedEnd": None if end.at is None else end.at.isoformat(),
        "text": told.text,
        "flags": [f"{environment}/{flag}" for environment, flag in subjects],
        "revisions": dict(revisions),
        "evidence": [each.text for each in told.gates],
        **(_planned(release) if told.happening in (Happening.CREATED, Happening.REVISED) else {}),
    }


def _judged(connection: Connection, stored: StoredRelease, event: Event | None) -> dict[str, Json]:
    """Whose word it came of, if a guard's."""
    if not isinstance(event, Judged):
        return {}
    try:
        guard = read_guard(connection, stored.project, event.guard).guard
    except NotFound:
        # It was taken away meanwhile; what it said stays said.
        metric = ""
    else:
        metric = guard.metric or guard.query
    return {"guard": event.guard, "metric": metric, "value": event.value, "threshold": event.threshold}


def _asked(stored: StoredRelease, told: Told) -> dict[str, Json]:
    """Whom a step asks now, and how long they have."""
    if told.happening is not Happening.GO_ASKED:
        return {}
    waiting = {each.name for each in stored.release.progress.externals if each.asked_at == stored.updated_at}
    externals = stored.release.plan.steps[told.to_step].gates.externals
    # Whose silence was an answer at once is asked no more, and was asked all the same.
    asked = [each for each in externals if each.name in waiting] or externals
    until = {each.name: stored.updated_at + timedelta(seconds=each.timeout_s) for each in asked}
    return {
        "asked": list(until),
        "answerBy": min(until.values()).isoformat(),
        "answerWith": ANSWER,
        "onSilence": [f"{each.name}: {each.on_timeout}, at {until[each.name].isoformat()}" for each in asked],
    }


def _planned(release: Release) -> dict[str, Json]:
    return {"steps": [f"{step.name}: {'; '.join(map(describe_patch, step.patches))}" for step in release.plan.steps]}


def percent_at(release: Release, step: int) -> float | None:
    """The largest share that has been set by a step; None before there is one."""
    found = [parts for index, parts in shares_of(release.plan.steps).items() if index <= step]
    return found[-1] / 1000 if found else None
