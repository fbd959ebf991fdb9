"""Say which steps of a release stand in its flags beforehand, so that the clock alone takes them.

Only time leaves such a step, and the next one only widens shares. Every evaluator then widens them at the same second,
also while no server runs; the release follows when it can. Whatever holds the release takes the coming steps out again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

from server.core.flags import FlagConfig, Rule, ShareStep
from server.core.releases.plan import Patch, Plan, Policy, Subject
from server.core.releases.progress import Release, State

Coming: TypeAlias = Mapping[tuple[str, str, str], Sequence[ShareStep]]
"""(environment, flag, rule) -> the steps of its share; nothing where the clock is not to take any."""

NOTHING: Final[Coming] = {}


def coming(release: Release) -> Coming:
    """What the clock is to make of the shares of a release, from the step where it is on."""
    plan, progress = release.plan, release.progress
    if not plan.by_clock or progress.state is not State.RUNNING or progress.entered_at is None:
        return NOTHING
    found: dict[tuple[str, str, str], list[ShareStep]] = {}
    at = progress.entered_at + timedelta(seconds=progress.paused_s)
    for here, there in pairwise(plan.steps[progress.step :]):
        at += timedelta(seconds=here.gates.minimum_s)
        if not here.gates.only_time or not all(map(_only_widens, there.patches)) or _ends_before(plan, at):
            break
        for patch in there.patches:
            step = ShareStep(_second(at), patch.share_parts or 0)
            steps = found.setdefault((patch.environment, patch.flag, patch.rule), [])
            # Of several at one second the last one holds.
            steps[:] = [*(each for each in steps if each.at < step.at), step]
    return found


def is_foretold(plan: Plan) -> bool:
    """Whether there is a step that the clock could take."""
    return any(here.gates.only_time and all(map(_only_widens, there.patches)) for here, there in pairwise(plan.steps))


def entered_by_clock(plan: Plan, entered_at: datetime) -> datetime:
    """When a step begins: at a whole second, where the clock is to take the next one."""
    return entered_at.replace(microsecond=0) if plan.by_clock else entered_at


def paused_by_clock(plan: Plan, paused_s: float) -> float:
    """How long a pause counts out: whole seconds, where the clock is to take the next step."""
    return float(math.ceil(paused_s)) if plan.by_clock else paused_s


@dataclass(frozen=True, slots=True)
class Foresight:
    """What the clock is to make of a flag, as it is known while a release moves it."""

    now: datetime
    coming: Coming = field(default_factory=dict)


def foretold(
    config: FlagConfig, had: FlagConfig, plan: Plan, subject: Subject, sight: Foresight, *, going_back: bool
) -> FlagConfig:
    """A configuration whose shares have the coming steps and no others.

    `had` is the one that is there: what the clock has made of its shares stays, unless the release goes back.
    """
    if not plan.by_clock:
        return config
    rules = {each.rule for each in plan.patches() if (each.environment, each.flag) == subject and each.rule}
    before = {rule.id: rule for rule in had.rules}
    changed = tuple(
        _rule(rule, None if going_back else before.get(rule.id), sight.coming.get((*subject, rule.id), ()), sight.now)
        if rule.id in rules
        else rule
        for rule in config.rules
    )
    return replace(config, rules=changed)


def _rule(rule: Rule, before: Rule | None, steps: Sequence[ShareStep], now: datetime) -> Rule:
    if rule.share is None:
        return rule
    parts = rule.share.parts
    if before is not None and before.share is not None:
        # The clock may have taken a step that nobody wrote down yet.
        parts = max(parts, before.share.parts_at(now.timestamp()))
    later = tuple(step for step in steps if step.at > now and step.parts > parts)
    return replace(rule, share=replace(rule.share, parts=parts, steps=later))


def _only_widens(patch: Patch) -> bool:
    return patch.share_parts is not None and patch == Patch(
        patch.environment, patch.flag, patch.rule, share_parts=patch.share_parts
    )


def _ends_before(plan: Plan, at: datetime) -> bool:
    """Whether the release is to be somewhere else by then."""
    if plan.cutoff_at is not None and plan.cutoff_at <= at:
        return True
    return plan.deadline is not None and plan.deadline.policy is not Policy.WARN and plan.deadline.at <= at


def _second(at: datetime) -> datetime:
    return datetime.fromtimestamp(math.ceil(at.timestamp()), UTC)


def changes_what_comes(before: Release, after: Release) -> bool:
    """Whether the clock is to take other steps from now on."""
    return coming(before) != coming(after)
