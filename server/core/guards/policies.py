"""Say when flags are taken back by themselves, which, how far, and what has to be so before."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from server.core.definitions.problems import Problems
from server.core.guards.guards import check_key
from server.core.guards.verdicts import Verdict
from server.core.limits import CONFIRMATIONS_MAX, COOL_DOWN_S_MAX, KEY_CHARS_MAX, TEXT_CHARS_MAX, TRIGGERS_MAX


class TriggerKind(StrEnum):
    """What a roll-back may come of."""

    METRIC = "metric"
    """A guard fails: by its threshold, or against its control."""

    SIGNAL = "signal"
    """Somebody outside says so: an alert, a pipeline."""

    DEADLINE = "deadline"
    """A release is not complete by an instant."""

    EXPIRY = "expiry"
    """An instant has come."""

    HEARTBEAT = "heartbeat"
    """Nobody said for too long that all is well."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One thing that a roll-back comes of."""

    kind: TriggerKind
    name: str = ""
    """Of the guard, the signal or the heartbeat."""

    at: datetime | None = None
    """For a deadline and an expiry."""

    within_s: float = 0.0
    """For a heartbeat: how long after the last one, or after the policy was armed."""


class ReachKind(StrEnum):
    """What a policy takes back."""

    RULE = "rule"
    FLAG = "flag"
    ENVIRONMENT = "environment"
    """Every flag of the policy's environment."""

    LABEL = "label"
    """Those with a tag."""

    PLAN = "plan"
    """Those that a launch plan is about, in the policy's environment."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which flags a policy takes back, in its environment."""

    kind: ReachKind
    key: str = ""
    """Of the flag; of a label the tag; of a launch plan its id."""

    rule: str = ""


class Aim(StrEnum):
    """How far something is taken back."""

    ANCHOR = "anchor"
    """To what it was when the policy was armed."""

    OFF = "off"
    """To the off variant; a rule's share to nothing."""

    STEP = "step"
    """To an earlier step of the release that runs on the flag."""

    FREEZE = "freeze"
    """Not at all: the release that runs on the flag is held."""


class Mode(StrEnum):
    """Whether a policy does what it decides."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    """It only says what it would have done."""


class Reaction(StrEnum):
    """What is done when a guard goes on to say that nobody knows."""

    NOTHING = "nothing"
    WARN = "warn"
    FREEZE = "freeze"
    ROLL_BACK = "roll-back"


@dataclass(frozen=True, slots=True)
class Policy:
    """When flags of an environment are taken back by themselves."""

    key: str
    environment: str
    triggers: tuple[Trigger, ...]
    reach: Reach
    aim: Aim = Aim.OFF
    step: int = 0
    """For Aim.STEP: which of the release, counted from 1 as releases are shown; else 0."""

    mode: Mode = Mode.ENFORCE
    confirm: int = 1
    """So many of the last `confirm_of` judgements of a guard must fail."""

    confirm_of: int = 1
    exposures_min: int = 0
    """A failure by fewer observations does not count."""

    duration_min_s: float = 0.0
    """No guard's failure counts for so long after the policy was armed."""

    cool_down_s: float = 300.0
    """After it acted, guards, signals and heartbeats move it no more for so long."""

    on_no_data: Reaction = Reaction.NOTHING
    on_inconclusive: Reaction = Reaction.NOTHING
    on_error: Reaction = Reaction.WARN
    tolerated: int = 4
    """So many judgements in a row may say the same that is neither pass nor fail, before there is a reaction."""

    auto_resume: bool = False
    """What was taken back comes again after the cool-down, once the guard that failed passes as often as `confirm_of`
    in a row, or the signal is resolved, if nobody changed it meanwhile."""

    description: str = ""

    def reaction(self, verdict: Verdict) -> Reaction:
        """What is done about one that is neither pass nor fail."""
        by_verdict = {
            Verdict.NO_DATA: self.on_no_data,
            Verdict.INCONCLUSIVE: self.on_inconclusive,
            Verdict.ERROR: self.on_error,
        }
        return by_verdict.get(verdict, Reaction.NOTHING)


def check_policy(policy: Policy) -> None:
    """Errors: InvalidDefinition with everything that is wrong with a policy, by path."""
    problems = Problems()
    check_key(policy.key, path="/key", problems=problems)
    if not 1 <= len(policy.triggers) <= TRIGGERS_MAX:
        problems.error("/triggers", f"are {len(policy.triggers)}, expected 1 to {TRIGGERS_MAX}")
    for place, trigger in enumerate(policy.triggers):
        _check_trigger(trigger, f"/triggers/{place}", problems)
    _check_reach(policy.reach, problems)
    if not 1 <= policy.confirm <= policy.confirm_of <= CONFIRMATIONS_MAX:
        said = f"are {policy.confirm} of {policy.confirm_of}"
        problems.error("/confirm", f"{said}, expected some of as many or more, at most {CONFIRMATIONS_MAX}")
    for name, value in (("cool_down_s", policy.cool_down_s), ("duration_min_s", policy.duration_min_s)):
        if not 0 <= value <= COOL_DOWN_S_MAX:
            problems.error(f"/{name}", f"is {value:g}, expected 0 to {COOL_DOWN_S_MAX:g} seconds")
    for name, count in (
        ("exposures_min", policy.exposures_min),
        ("tolerated", policy.tolerated),
        ("step", policy.step),
    ):
        if count < 0:
            problems.error(f"/{name}", f"is {count}, expected 0 or more")
    if policy.step and policy.aim is not Aim.STEP:
        problems.error("/step", "is for the aim `step`")
    if policy.aim is Aim.STEP and not policy.step:
        problems.error("/step", "says which step of the release, counted from 1")
    if policy.aim in (Aim.STEP, Aim.FREEZE) and policy.reach.kind is ReachKind.RULE:
        problems.error("/aim", "a release goes back or stands still as a whole: reach for its flag, not for a rule")
    if len(policy.description) > TEXT_CHARS_MAX:
        problems.error("/description", f"has more than {TEXT_CHARS_MAX} characters")
    problems.raise_if_any()


def _check_trigger(trigger: Trigger, path: str, problems: Problems) -> None:
    timed = trigger.kind in (TriggerKind.DEADLINE, TriggerKind.EXPIRY)
    if timed != (trigger.at is not None):
        problems.error(f"{path}/at", f"a {trigger.kind} trigger {'needs an instant' if timed else 'has no instant'}")
    if timed == bool(trigger.name):
        problems.error(f"{path}/name", f"a {trigger.kind} trigger {'has no name' if timed else 'needs a name'}")
    if len(trigger.name) > KEY_CHARS_MAX:
        problems.error(f"{path}/name", f"has more than {KEY_CHARS_MAX} characters")
    beats = trigger.kind is TriggerKind.HEARTBEAT
    if beats and not 1 <= trigger.within_s <= COOL_DOWN_S_MAX:
        problems.error(f"{path}/within_s", f"is {trigger.within_s:g}, expected 1 to {COOL_DOWN_S_MAX:g} seconds")
    if not beats and trigger.within_s:
        problems.error(f"{path}/within_s", "is for heartbeats")


def _check_reach(reach: Reach, problems: Problems) -> None:
    if reach.kind is ReachKind.ENVIRONMENT:
        if reach.key or reach.rule:
            problems.error("/reach/key", "the policy's environment is meant; leave key and rule out")
        return
    if not reach.key or len(reach.key) > KEY_CHARS_MAX:
        what = {ReachKind.LABEL: "tag", ReachKind.PLAN: "launch plan"}.get(reach.kind, "flag")
        problems.error("/reach/key", f"names the {what}, 1 to {KEY_CHARS_MAX} characters")
    if bool(reach.rule) != (reach.kind is ReachKind.RULE):
        problems.error("/reach/rule", "names the rule where one rule is reached, and is left out elsewhere")
