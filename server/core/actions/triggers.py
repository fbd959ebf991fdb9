"""Describe an address that has one thing done, and say what a call of it comes to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from server.core.access import Grant
from server.core.actions.catalogue import CATALOGUE
from server.core.actions.inputs import read_inputs
from server.core.actions.presets import ALERTS_MAX, PRESETS, Alert
from server.core.actions.values import ENVIRONMENT, PROJECT, ActionType, Done
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json

SIGNAL: Final = "send_signal"
NAME_CHARS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Effect:
    """An action with its inputs, without project and environment."""

    action: str
    inputs: Mapping[str, Json]


SIGNALLED: Final = Effect(SIGNAL, {})
"""What a preset does unless something else is said: a signal of the alert's name."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One address; what is secret about it stands elsewhere."""

    id: str
    project: str
    environment: str
    """"" where its actions name none."""

    name: str
    firing: Effect
    """What a call does; with a preset, what an alert does that fires."""

    resolved: Effect | None = None
    """With a preset: what is done when an alert is over. A signal tells that by itself."""

    preset: str = ""
    enabled: bool = True
    signed: bool = False
    """Whether calls must bear a signature."""

    maker: str = ""
    grants: tuple[Grant, ...] = ()
    use_count: int = 0
    used_at: datetime | None = None
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def actor(self) -> str:
        """As the audit trail names it."""
        return f"trigger:{self.id}"


@dataclass(frozen=True, slots=True)
class Used:
    """What a call of an address came to."""

    trigger_id: str
    results: tuple[Done, ...]
    left_out: int = 0
    """Alerts of a body that were too many."""


def check_trigger(trigger: Trigger) -> None:
    """Refuse what could never be done. Errors: InvalidDefinition with every problem and its path."""
    problems = list(_problems(trigger))
    if problems:
        raise InvalidDefinition(problems)


def _problems(trigger: Trigger) -> Iterator[Problem]:
    if not trigger.name or len(trigger.name) > NAME_CHARS_MAX or "\0" in trigger.name:
        yield Problem("/name", f"expected 1 to {NAME_CHARS_MAX} characters")
    if trigger.preset and trigger.preset not in PRESETS:
        yield Problem("/preset", f"expected one of: {', '.join(PRESETS)}; or none")
    if trigger.resolved is not None and not trigger.preset:
        yield Problem("/resolved", "only alerts are over some day: it needs a preset")
    for path, effect in (("/firing", trigger.firing), ("/resolved", trigger.resolved)):
        if effect is not None:
            yield from _effect_problems(trigger, effect, path)


def _effect_problems(trigger: Trigger, effect: Effect, path: str) -> Iterator[Problem]:
    type_ = CATALOGUE.get(effect.action)
    if type_ is None or not type_.writes:
        known = ", ".join(name for name, each in CATALOGUE.items() if each.writes)
        yield Problem(f"{path}/action", f"expected one of: {known}")
        return
    probe = Alert("alert") if trigger.preset else None
    try:
        read_inputs(type_, inputs_of(trigger, effect, probe))
    except InvalidDefinition as error:
        for each in error.problems:
            inside = each.path not in (f"/{PROJECT}", f"/{ENVIRONMENT}")
            yield Problem(f"{path}/inputs{each.path}" if inside else each.path, each.message)


def permissions(trigger: Trigger) -> Sequence[ActionType]:
    """The actions that it may have done."""
    effects = [trigger.firing, *([] if trigger.resolved is None else [trigger.resolved])]
    return [CATALOGUE[each.action] for each in effects]


def inputs_of(trigger: Trigger, effect: Effect, alert: Alert | None) -> dict[str, Json]:
    """All inputs of an effect: where, and for a signal what the alert says."""
    inputs: dict[str, Json] = dict(effect.inputs)
    if alert is not None and effect.action == SIGNAL:
        inputs = {"name": alert.name, "text": alert.text, "resolved": alert.resolved, **inputs}
    inputs[PROJECT] = trigger.project
    if trigger.environment:
        inputs[ENVIRONMENT] = trigger.environment
    return inputs


def effects_of(trigger: Trigger, alerts: Sequence[Alert] | None) -> list[tuple[Effect, Alert | None]]:
    """What a call comes to, in order; alerts are None where no preset reads the body."""
    if alerts is None:
        return [(trigger.firing, None)]
    effects: list[tuple[Effect, Alert | None]] = []
    for alert in alerts[:ALERTS_MAX]:
        if not alert.resolved or (trigger.resolved is None and trigger.firing.action == SIGNAL):
            effects.append((trigger.firing, alert))
        elif trigger.resolved is not None:
            effects.append((trigger.resolved, alert))
    # An action with fixed inputs is the same for each of several alerts: once is enough.
    return [each for place, each in enumerate(effects) if not _was_before(each, effects[:place])]


def _was_before(each: tuple[Effect, Alert | None], before: Sequence[tuple[Effect, Alert | None]]) -> bool:
    return each[0].action != SIGNAL and any(effect is each[0] for effect, _ in before)
