"""Decide how a release goes on: a table of arrows, and what leads from one state to the next.

What comes in is a value: a command, a verdict, an answer, the time. What comes out is the release afterwards, the one
move that its flags are to make, and what there is to tell. Nothing else is known here, so what was decided is decided
again when what came in is put in again.
"""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from server.core.errors import Refused
from server.core.releases.commands import COMMANDS
from server.core.releases.deciding import decide
from server.core.releases.gates import check_of, external_of, heard
from server.core.releases.plan import Plan
from server.core.releases.progress import (
    ENDED,
    LIVE,
    Answered,
    Blocked,
    Command,
    Event,
    Happening,
    Judged,
    Progress,
    Release,
    Revised,
    State,
    Tick,
)
from server.core.releases.walking import Outcome, Walk


def created(plan: Plan, progress: Progress) -> Release:
    """A release that nobody has started."""
    return Release(plan, replace(progress, state=State.CREATED))


def step(release: Release, event: Event, now: datetime) -> Outcome:
    """What comes of an event. Errors: Refused for what cannot happen in its state."""
    walk = Walk(release.plan, release.progress, now)
    match event:
        case Command():
            COMMANDS[event.act](walk, event)
        case Tick():
            walk.lacking = event.lacking
        case Judged():
            _judged(walk, event)
        case Answered():
            _answered(walk, event)
        case Blocked():
            _blocked(walk, event)
        case Revised():
            _revised(walk, event)
        case _:
            assert_never(event)
    if not isinstance(event, Blocked):
        decide(walk)
    if walk.progress == release.progress and walk.plan == release.plan and not walk.told:
        return Outcome(release)
    after = replace(walk.progress, event_count=release.progress.event_count + 1)
    return Outcome(Release(walk.plan, after), walk.move, tuple(walk.told))


def _judged(walk: Walk, event: Judged) -> None:
    progress = walk.progress
    if progress.state not in LIVE:
        return
    for check in walk.gates.checks:
        if check.guard != event.guard or _served_s(progress, walk.now) < check.initial_delay_s:
            continue
        said = check_of(progress, check)
        if event.evaluation and event.evaluation == said.evaluation:
            # Asked again, it is still the same word.
            continue
        after = heard(check, said, event, sample_min=walk.gates.sample_min)
        if after is not said:
            others = (each for each in progress.checks if each.guard != check.guard)
            text = f"{event.guard} says {event.verdict}{f': {event.text}' if event.text else ''}"
            dry = " (dry run)" if check.dry_run else ""
            walk.happen(Happening.JUDGED, text=f"{text}{dry}", checks=(*others, after))


def _served_s(progress: Progress, now: datetime) -> float:
    """How long a step has been served, pauses and all."""
    return 0.0 if progress.entered_at is None else max(0.0, (now - progress.entered_at).total_seconds())


def _answered(walk: Walk, event: Answered) -> None:
    progress = walk.progress
    external = next((each for each in walk.gates.externals if each.name == event.name), None)
    if progress.state not in LIVE or external is None:
        names = ", ".join(each.name for each in walk.gates.externals) or "nobody"
        raise Refused(f"{event.name!r} is not asked at this step; it asks {names}")
    asked = external_of(progress, external)
    after = replace(asked, go=event.go, actor=event.actor, text=event.text)
    others = (each for each in progress.externals if each.name != event.name)
    word = "go" if event.go else "no-go"
    text = f"{event.name}: {word}{f', {event.text}' if event.text else ''}"
    walk.happen(Happening.ANSWERED, actor=event.actor, text=text, externals=(*others, after))


def _blocked(walk: Walk, event: Blocked) -> None:
    progress = walk.progress
    if progress.blocked == event.text and progress.state not in ENDED:
        # Told once; that it is tried again and again is no news.
        walk.progress = replace(progress, retry_at=event.retry_at)
        return
    walk.happen(Happening.BLOCKED, text=event.text, blocked=event.text, retry_at=event.retry_at)


def _revised(walk: Walk, event: Revised) -> None:
    authors = (*(each for each in walk.progress.authors if each != event.actor), event.actor)
    walk.happen(
        Happening.REVISED,
        actor=event.actor,
        authors=authors,
        owner=event.actor,
        owner_grants=event.grants,
        start_approvals=(),
        deadline_missed=False,
        note="",
        blocked="",
        retry_at=None,
    )
    walk.plan = event.plan
