"""Say when something may happen to a release next, and when it would be done."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.core.releases.gates import TIME, elapsed_s, external_of, gates_of
from server.core.releases.progress import BEFORE_START, LIVE, Release, State


@dataclass(frozen=True, slots=True)
class Projection:
    """When a release would be completed."""

    at: datetime | None
    """None when it does not move, and where it has ended."""

    is_earliest: bool
    """Whether something beside time is waited for, so that it may be later."""


def next_at(release: Release, now: datetime, *, judged_every_s: float) -> datetime | None:
    """The earliest instant at which time alone may make a difference; None while only people can.

    Units: guards are asked every `judged_every_s` seconds while a step waits for what they say.
    """
    progress = release.progress
    if progress.state not in BEFORE_START | LIVE:
        return None
    # What was due by now has been decided.
    found = [each for each in _instants(release, now, judged_every_s) if each is not None and each > now]
    return min(found, default=None)


def _instants(release: Release, now: datetime, judged_every_s: float) -> Iterator[datetime | None]:
    plan, progress = release.plan, release.progress
    if plan.deadline is not None and not progress.deadline_missed:
        yield plan.deadline.at
    if progress.state in BEFORE_START:
        if plan.starts_at is not None and (progress.state is State.CREATED or plan.starts_at > now):
            yield max(plan.starts_at, progress.retry_at or plan.starts_at)
        elif progress.state is State.AWAITING_START:
            yield progress.retry_at
        return
    yield plan.cutoff_at
    gates = plan.steps[progress.step].gates
    if gates.checks:
        yield now + timedelta(seconds=judged_every_s)
    for external in gates.externals:
        asked = external_of(progress, external)
        if asked.go is None and asked.asked_at is not None and progress.state is not State.PAUSED:
            yield asked.asked_at + timedelta(seconds=external.timeout_s)
    if progress.state is State.RUNNING:
        yield progress.retry_at
        left_s = gates.minimum_s - elapsed_s(progress, now)
        if left_s > 0:
            yield now + timedelta(seconds=left_s)


def projected_end(release: Release, now: datetime) -> Projection:
    """When it would be completed, if nothing but time held it."""
    plan, progress = release.plan, release.progress
    if progress.state in BEFORE_START:
        begins = plan.starts_at if plan.starts_at is not None and plan.starts_at > now else now
        known = plan.starts_at is not None and not plan.start_approvals and progress.state is State.CREATED
        left = plan.steps
        passed_s = 0.0
    elif progress.state in LIVE:
        begins, left, passed_s = now, plan.steps[progress.step :], elapsed_s(progress, now)
        known = progress.state is State.RUNNING
    else:
        return Projection(None, is_earliest=False)
    seconds = sum(each.gates.minimum_s for each in left) - min(passed_s, left[0].gates.minimum_s)
    only_time = known and all(each.gates.only_time for each in left)
    if progress.state in LIVE and known:
        # What holds already is not waited for.
        here = all(each.holds or each.kind == TIME for each in gates_of(release, now))
        only_time = here and all(each.gates.only_time for each in left[1:])
    return Projection(begins + timedelta(seconds=seconds), is_earliest=not only_time)
