"""Say how a roll-back policy goes on: its states, what happens to it, and what it then wants done.

Nothing here waits: a breach that is confirmed is acted on by the very judgement that confirms it. Time, verdicts and
signals come in as values, so that what was decided can be decided again from what was kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from server.core.errors import Refused
from server.core.guards.policies import Mode, Policy, Reaction, Trigger, TriggerKind
from server.core.guards.verdicts import Verdict


class State(StrEnum):
    """Where a policy is."""

    ARMED = "armed"
    COOLING = "cooling"
    """It acted, or would have, and lets some time pass."""

    DISARMED = "disarmed"
    """Somebody has turned it off."""


class Happening(StrEnum):
    """What happens to a policy."""

    ARMED = "armed"
    DISARMED = "disarmed"
    JUDGED = "judged"
    """One of its guards was."""

    SIGNALLED = "signalled"
    RESOLVED = "resolved"
    """What was signalled is over."""

    BEAT = "beat"
    TICKED = "ticked"
    """Time passed."""


ARROWS: Final[Mapping[tuple[State, Happening], frozenset[State]]] = {
    **{(state, Happening.ARMED): frozenset({State.ARMED}) for state in State},
    **{(state, Happening.DISARMED): frozenset({State.DISARMED}) for state in (State.ARMED, State.COOLING)},
    **{
        (State.ARMED, each): frozenset({State.ARMED, State.COOLING})
        for each in (Happening.JUDGED, Happening.SIGNALLED, Happening.TICKED)
    },
    **{(State.ARMED, each): frozenset({State.ARMED}) for each in (Happening.RESOLVED, Happening.BEAT)},
    **{
        (State.COOLING, each): frozenset({State.COOLING, State.ARMED})
        for each in (Happening.JUDGED, Happening.RESOLVED, Happening.TICKED)
    },
    **{(State.COOLING, each): frozenset({State.COOLING}) for each in (Happening.SIGNALLED, Happening.BEAT)},
    **{
        (State.DISARMED, each): frozenset({State.DISARMED})
        for each in (Happening.JUDGED, Happening.SIGNALLED, Happening.RESOLVED, Happening.BEAT, Happening.TICKED)
    },
}
"""(state, what happens) -> states that it may lead to. What is not here cannot happen."""


class Order(StrEnum):
    """What a policy wants done."""

    ROLL_BACK = "roll-back"
    FREEZE = "freeze"
    RESUME = "resume"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    happening: Happening
    at: datetime
    name: str = ""
    """Of the guard, the signal or the heartbeat."""

    verdict: Verdict | None = None
    """Of the guard."""

    sample_count: int | None = None
    text: str = ""
    revision: int = 0
    """For ARMED: what the environment was at."""

    unfinished: bool = False
    """For TICKED: whether a release runs on what the policy reaches."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a policy remembers of a guard."""

    recent: tuple[Verdict, ...] = ()
    """Its last passes and failures, as many as a confirmation takes; the newest last."""

    odd: Verdict | None = None
    """What is neither and was said last."""

    odd_count: int = 0
    """How often in a row."""

    passes: int = 0
    """In a row."""


@dataclass(frozen=True, slots=True)
class Acted:
    """What a policy did last, or would have done."""

    order: Order
    trigger: int
    """Its place among the policy's; -1 for a reaction to what is neither pass nor fail."""

    name: str
    at: datetime
    text: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a policy has come."""

    state: State
    armed_at: datetime
    anchor: int = 0
    """What the environment was at when it was armed."""

    step_count: int = 0
    watches: Mapping[str, Watch] = field(default_factory=dict)
    beats: Mapping[str, datetime] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    """Heartbeats whose absence was acted on; until the next one it is not acted on again."""

    spent: tuple[int, ...] = ()
    """Places of triggers whose instant has come."""

    cooling_until: datetime | None = None
    acted: Acted | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes of something that happened."""

    progress: Progress
    order: Order | None = None
    trigger: int = -1
    text: str = ""
    """Why, or why nothing is done."""

    is_shadow: bool = False
    """It is only to be told, and not done."""


def started(event: Event) -> Progress:
    """A new policy, armed."""
    return Progress(State.ARMED, event.at, event.revision)


def step(policy: Policy, progress: Progress, event: Event) -> Decision:
    """What a policy does about something that happened. Errors: Refused when that cannot happen in its state."""
    if (progress.state, event.happening) not in ARROWS:
        raise Refused(f"policy {policy.key!r} is {progress.state} and cannot be {event.happening}")
    counted = replace(progress, step_count=progress.step_count + 1)
    match event.happening:
        case Happening.ARMED:
            return Decision(replace(started(event), step_count=counted.step_count, beats=counted.beats), text="armed")
        case Happening.DISARMED:
            return Decision(replace(counted, state=State.DISARMED, cooling_until=None), text="disarmed")
        case Happening.BEAT:
            silent = tuple(each for each in counted.silent if each != event.name)
            return Decision(replace(counted, beats={**counted.beats, event.name: event.at}, silent=silent))
    if progress.state is State.DISARMED:
        return Decision(counted, text="the policy is disarmed")
    match event.happening:
        case Happening.JUDGED:
            return _judged(policy, counted, event)
        case Happening.SIGNALLED:
            return _signalled(policy, counted, event)
        case Happening.RESOLVED:
            return _resolved(policy, counted, event)
    return _ticked(policy, counted, event)


def next_at(policy: Policy, progress: Progress) -> datetime | None:
    """When time alone moves a policy next; None when it does not."""
    if progress.state is State.DISARMED:
        return None
    instants = [] if progress.cooling_until is None else [progress.cooling_until]
    for place, trigger in enumerate(policy.triggers):
        if trigger.at is not None and place not in progress.spent:
            instants.append(trigger.at)
        # One that has acted hears of heartbeats when it is armed again.
        beats = trigger.kind is TriggerKind.HEARTBEAT and progress.state is State.ARMED
        if beats and trigger.name not in progress.silent:
            instants.append(_beat_due(progress, trigger))
    return min(instants, default=None)


def _judged(policy: Policy, progress: Progress, event: Event) -> Decision:
    verdict = event.verdict
    if verdict is None:
        return Decision(progress)
    place = _trigger(policy, TriggerKind.METRIC, event.name)
    watch = _watched(policy, progress.watches.get(event.name, Watch()), event)
    progress = replace(progress, watches={**progress.watches, event.name: watch})
    if progress.state is State.COOLING:
        return _cooled(policy, progress, event, place)
    if place < 0:
        return Decision(progress, text="no trigger of the policy is about this guard")
    if verdict is Verdict.PASS:
        return Decision(progress)
    if verdict is not Verdict.FAIL:
        return _odd(policy, progress, event, watch)
    lacking = _unconfirmed(policy, progress, event, watch)
    if lacking:
        return Decision(progress, text=lacking)
    return _act(policy, progress, event, Order.ROLL_BACK, place)


def _watched(policy: Policy, watch: Watch, event: Event) -> Watch:
    verdict = event.verdict
    if verdict is Verdict.PASS or verdict is Verdict.FAIL:
        # What too few were there for is no failure, and no pass either.
        counts = verdict is Verdict.PASS or _is_counted(policy, event)
        recent = (*watch.recent, verdict)[-policy.confirm_of :] if counts else watch.recent
        return Watch(recent, passes=watch.passes + 1 if verdict is Verdict.PASS else 0)
    odd_count = watch.odd_count + 1 if watch.odd is verdict else 1
    return replace(watch, odd=verdict, odd_count=odd_count, passes=0)


def _is_counted(policy: Policy, event: Event) -> bool:
    return event.sample_count is None or event.sample_count >= policy.exposures_min


def _unconfirmed(policy: Policy, progress: Progress, event: Event, watch: Watch) -> str:
    """What a failure still lacks; "" for nothing."""
    if not _is_counted(policy, event):
        return f"failed by {event.sample_count} observations; the policy asks for {policy.exposures_min}"
    # Without such a wish not even a clock that was set back delays it.
    if policy.duration_min_s and event.at < progress.armed_at + timedelta(seconds=policy.duration_min_s):
        return f"failed within {policy.duration_min_s:g} s after the policy was armed, which do not count"
    failures = watch.recent.count(Verdict.FAIL)
    if failures < policy.confirm:
        return f"failed {failures} times of the last {len(watch.recent)}; {policy.confirm} are asked for"
    return ""


def _odd(policy: Policy, progress: Progress, event: Event, watch: Watch) -> Decision:
    if watch.odd_count != policy.tolerated + 1:
        return Decision(progress, text=f"{watch.odd_count} in a row")
    reaction = policy.reaction(watch.odd or Verdict.ERROR)
    if reaction is Reaction.NOTHING:
        return Decision(progress, text=f"{watch.odd_count} in a row, about which nothing is to be done")
    if reaction is Reaction.WARN:
        return Decision(progress, Order.WARN, text=f"{watch.odd} {watch.odd_count} times in a row: {event.text}")
    order = Order.FREEZE if reaction is Reaction.FREEZE else Order.ROLL_BACK
    return _act(policy, progress, event, order, -1)


def _cooled(policy: Policy, progress: Progress, event: Event, place: int) -> Decision:
    """What a judgement does to a policy that has acted: it may let what was taken back come again."""
    acted = progress.acted
    waits = progress.cooling_until is not None and event.at < progress.cooling_until
    if acted is None or not policy.auto_resume or acted.name != event.name or place < 0 or waits:
        return Decision(progress, text="the policy cools down")
    if progress.watches[event.name].passes < policy.confirm_of:
        return Decision(progress, text="the policy waits for passes")
    return _resume(policy, progress, event)


def _signalled(policy: Policy, progress: Progress, event: Event) -> Decision:
    place = _trigger(policy, TriggerKind.SIGNAL, event.name)
    if place < 0:
        return Decision(progress, text="no trigger of the policy is about this signal")
    if progress.state is State.COOLING:
        return Decision(progress, text="the policy cools down")
    return _act(policy, progress, event, Order.ROLL_BACK, place)


def _resolved(policy: Policy, progress: Progress, event: Event) -> Decision:
    acted = progress.acted
    if progress.state is not State.COOLING or not policy.auto_resume or acted is None or acted.name != event.name:
        return Decision(progress)
    if progress.cooling_until is not None and event.at < progress.cooling_until:
        # Kept for the end of the cool-down.
        watch = Watch(passes=policy.confirm_of)
        return Decision(
            replace(progress, watches={**progress.watches, event.name: watch}), text="the policy cools down"
        )
    return _resume(policy, progress, event)


def _resume(policy: Policy, progress: Progress, event: Event) -> Decision:
    after = _rearmed(progress, event.at)
    if progress.acted is not None and progress.acted.order is not Order.ROLL_BACK:
        return Decision(after, text="the policy is armed again")
    return Decision(after, Order.RESUME, text=event.text, is_shadow=policy.mode is Mode.SHADOW)


def _ticked(policy: Policy, progress: Progress, event: Event) -> Decision:
    for place, trigger in enumerate(policy.triggers):
        if trigger.at is None or trigger.at > event.at or place in progress.spent:
            continue
        progress = replace(progress, spent=(*progress.spent, place))
        if trigger.kind is TriggerKind.DEADLINE and not event.unfinished:
            return Decision(progress, trigger=place, text="complete by its deadline")
        what = "not complete by its deadline" if trigger.kind is TriggerKind.DEADLINE else "expired"
        text = f"{what}, {trigger.at:%Y-%m-%d %H:%M} UTC"
        return _act(policy, progress, replace(event, text=text), Order.ROLL_BACK, place)
    if progress.state is State.COOLING:
        return _cool(policy, progress, event)
    for place, trigger in enumerate(policy.triggers):
        if trigger.kind is TriggerKind.HEARTBEAT and trigger.name not in progress.silent:
            if _beat_due(progress, trigger) > event.at:
                continue
            silent = replace(progress, silent=(*progress.silent, trigger.name))
            text = f"no heartbeat {trigger.name!r} for {trigger.within_s:g} s"
            return _act(policy, silent, replace(event, name=trigger.name, text=text), Order.ROLL_BACK, place)
    return Decision(progress)


def _cool(policy: Policy, progress: Progress, event: Event) -> Decision:
    until, acted = progress.cooling_until, progress.acted
    if until is None or until > event.at:
        return Decision(progress)
    if not policy.auto_resume or acted is None or acted.order is not Order.ROLL_BACK:
        return Decision(_rearmed(progress, event.at), text="the policy is armed again")
    if progress.watches.get(acted.name, Watch()).passes >= policy.confirm_of:
        return _resume(policy, progress, replace(event, text="the cool-down is over, and all is well"))
    # It waits for passes, or for the signal's end.
    return Decision(replace(progress, cooling_until=None), text="the policy waits for passes")


def _rearmed(progress: Progress, at: datetime) -> Progress:
    return replace(progress, state=State.ARMED, cooling_until=None, watches={}, armed_at=at)


def _act(policy: Policy, progress: Progress, event: Event, order: Order, place: int) -> Decision:
    acted = Acted(order, place, event.name, event.at, event.text, policy.mode)
    until = event.at + timedelta(seconds=policy.cool_down_s)
    # What was said before is settled with this: a guard must fail, or pass, anew.
    cooling = replace(progress, state=State.COOLING, cooling_until=until, acted=acted, watches={})
    return Decision(cooling, order, place, event.text, policy.mode is Mode.SHADOW)


def _trigger(policy: Policy, kind: TriggerKind, name: str) -> int:
    found = (place for place, each in enumerate(policy.triggers) if each.kind is kind and each.name == name)
    return next(found, -1)


def _beat_due(progress: Progress, trigger: Trigger) -> datetime:
    since = max(progress.armed_at, progress.beats.get(trigger.name, progress.armed_at))
    return since + timedelta(seconds=trigger.within_s)
