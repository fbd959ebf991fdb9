"""Read what a release is to do from its messages."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from protos.flagstaff.v1 import flags_pb2
from protos.flagstaff.v1 import releases_pb2 as messages
from server.core.errors import InvalidRequest
from server.core.flags import TARGETING_KEY
from server.core.json import Json
from server.core.limits import RELEASE_PATCHES_MAX, RELEASE_STEPS_MAX, SHARE_PARTS
from server.core.releases import recipes
from server.core.releases.plan import (
    BackTo,
    Check,
    Deadline,
    External,
    Gates,
    Kind,
    OnTimeout,
    Patch,
    Plan,
    Policy,
    Reaction,
    Step,
    Target,
)
from server.core.releases.progress import State
from server.operations.releases.looking import Looking
from server.operations.releases.templates import Templates
from server.rpc.flag_messages import (
    read_prerequisites_message,
    read_rule_message,
    read_serve_message,
    read_variants_message,
)
from server.rpc.management import named
from server.rpc.timestamps import instant
from server.rpc.values import json_of

E = TypeVar("E", bound=StrEnum)

KINDS: Final[Mapping[Kind, Any]] = {
    Kind[name.removeprefix("RELEASE_KIND_")]: number for name, number in messages.ReleaseKind.items() if number
}
STATES: Final[Mapping[State, Any]] = {
    State[name.removeprefix("RELEASE_STATE_")]: number for name, number in messages.ReleaseState.items() if number
}
POLICIES: Final[Mapping[Policy, Any]] = {
    Policy[name.removeprefix("VERDICT_POLICY_")]: number for name, number in messages.VerdictPolicy.items() if number
}
TARGETS: Final[Mapping[BackTo, Any]] = {
    BackTo[name.removeprefix("TO_")]: number for name, number in messages.RollBackTarget.To.items() if number
}
SILENCES: Final[Mapping[OnTimeout, Any]] = {
    OnTimeout[name.removeprefix("ON_SILENCE_")]: number
    for name, number in messages.ReleaseExternal.OnSilence.items()
    if number
}
BY_HAND: Final = Gates(manual=True)
_CHECK: Final = Check("")


def read_state(number: int) -> State:
    """A state. Errors: InvalidRequest."""
    return _enum(STATES, number, None, "state of a release")


def read_target(message: messages.RollBackTarget) -> Target:
    """Where a roll-back goes. Errors: InvalidRequest."""
    to = _enum(TARGETS, message.to, BackTo.ANCHOR, "target of a roll-back")
    if to is BackTo.STEP:
        return Target(to, message.step - 1)
    return Target(to)


def read_plan_message(request: Any, looking: Looking, templates: Templates) -> Plan:
    """A plan, with the steps that it has or that the request's recipe draws up. Errors: InvalidRequest,
    InvalidDefinition; NotFound for what a recipe names.
    """
    message, recipe = request.plan, request.WhichOneof("recipe")
    if recipe and message.steps:
        raise InvalidRequest(f"the plan has steps and a recipe ({recipe}); leave one of them out")
    kind = _enum(KINDS, message.kind, Kind.PROGRESSIVE, "kind of release")
    steps: tuple[Step, ...]
    match recipe:
        case "progressive":
            steps = _progressive(request.progressive, request.project, templates)
        case "canary":
            kind, steps = Kind.CANARY, _canary(request.canary, request.project, looking)
        case "blue_green":
            kind, steps = Kind.BLUE_GREEN, _blue_green(request.blue_green)
        case _:
            if len(message.steps) > RELEASE_STEPS_MAX:
                raise InvalidRequest(f"there are {len(message.steps)} steps, at most {RELEASE_STEPS_MAX} are allowed")
            steps = tuple(_step(each) for each in message.steps)
    return Plan(
        name=message.name,
        steps=steps,
        kind=kind,
        description=message.description,
        start_approvals=message.start_approvals,
        starts_at=_instant(message, "starts_at"),
        cutoff_at=_instant(message, "cutoff_at"),
        deadline=_deadline(message),
        locks=message.lock,
        back_to=read_target(message.back_to),
        by_clock=message.by_clock,
    )


def read_gates(message: messages.ReleaseGates) -> Gates:
    """The gates of a step. Errors: InvalidRequest."""
    return Gates(
        minimum_s=_seconds(message, "minimum", 0.0),
        sample_min=message.sample_min,
        checks=tuple(_check(each) for each in message.checks),
        externals=tuple(_external(each) for each in message.externals),
        approvals=message.approvals,
        manual=message.manual,
    )


def _step(message: messages.ReleaseStep) -> Step:
    if len(message.patches) > RELEASE_PATCHES_MAX:
        raise InvalidRequest(f"a step has {len(message.patches)} patches, at most {RELEASE_PATCHES_MAX} are allowed")
    return Step(tuple(_patch(each) for each in message.patches), read_gates(message.gates), message.name)


def _patch(message: messages.ReleasePatch) -> Patch:
    flag = message.flag_key
    condition: Json = None
    if message.HasField("condition"):
        condition = json_of(message.condition)
    return Patch(
        environment=message.environment,
        flag=flag,
        rule=message.rule_id,
        share_parts=message.share_parts if message.HasField("share_parts") else None,
        serve=_serve(message) if message.HasField("serve") else None,
        sets_condition=message.HasField("condition"),
        condition=condition,
        enabled=message.enabled if message.HasField("enabled") else None,
        prerequisites=(
            read_prerequisites_message(flag, message.prerequisites.prerequisites)
            if message.HasField("prerequisites")
            else None
        ),
        variants=read_variants_message(flag, message.variants),
        add_rule=read_rule_message(flag, message.add_rule) if message.HasField("add_rule") else None,
        add_first=message.add_first,
        remove_rule=message.remove_rule,
    )


def _serve(message: messages.ReleasePatch) -> Any:
    if not message.rule_id:
        return read_serve_message(message.flag_key, message.serve)
    # As a rule of that id, so that a split has the salt of its place.
    rule = flags_pb2.Rule(id=message.rule_id, serve=message.serve)
    return read_rule_message(message.flag_key, rule).serve


def _progressive(recipe: messages.ProgressiveRecipe, project: str, templates: Templates) -> tuple[Step, ...]:
    named(recipe, "environment", "flag_key", "rule_id")
    first = messages.ReleasePatch()
    first.CopyFrom(recipe.first)
    first.environment, first.flag_key, first.rule_id = recipe.environment, recipe.flag_key, recipe.rule_id
    patch = _patch(first)
    match recipe.WhichOneof("curve"):
        case "linear":
            shares = recipes.linear(
                recipe.linear.first_parts, recipe.linear.last_parts or SHARE_PARTS, recipe.linear.by_parts
            )
        case "custom":
            shares = tuple(recipe.custom.parts)
        case "template":
            template = templates.read(project, recipe.template)
            return recipes.curved([(each.share_parts, each.gates) for each in template.steps], patch)
        case _:
            shares = recipes.geometric(recipe.geometric.first_parts, recipe.geometric.last_parts or SHARE_PARTS)
    gates, last = read_gates(recipe.gates), read_gates(recipe.last_gates)
    return recipes.progressive(shares, patch, gates=gates, last_gates=last)


def _canary(recipe: messages.CanaryRecipe, project: str, looking: Looking) -> tuple[Step, ...]:
    named(recipe, "environment", "flag_key", "treatment", "baseline")
    canary = recipes.Canary(
        environment=recipe.environment,
        flag=recipe.flag_key,
        treatment=recipe.treatment,
        baseline=recipe.baseline,
        baseline_value=looking.variant_value(project, recipe.environment, recipe.flag_key, recipe.baseline),
        rule=recipe.rule_id,
        control=recipe.control or recipes.CONTROL,
        bucket_by=recipe.bucket_by or TARGETING_KEY,
    )
    gates, last = read_gates(recipe.gates), read_gates(recipe.last_gates)
    return recipes.canary_steps(canary, tuple(recipe.parts) or recipes.CANARY, gates=gates, last_gates=last)


def _blue_green(recipe: messages.BlueGreenRecipe) -> tuple[Step, ...]:
    if not recipe.flags:
        raise InvalidRequest("a blue-green release names the flags that it switches")
    for each in recipe.flags:
        named(each, "environment", "flag_key", "preview")
    switched = [recipes.Switched(each.environment, each.flag_key, each.preview, each.rule_id) for each in recipe.flags]
    if not recipe.HasField("audience"):
        raise InvalidRequest("a blue-green release says who sees the preview: an audience, as JsonLogic")
    before = read_gates(recipe.before) if recipe.HasField("before") else BY_HAND
    return recipes.blue_green_steps(switched, json_of(recipe.audience), before=before, after=read_gates(recipe.after))


def _check(message: messages.ReleaseCheck) -> Check:
    return Check(
        guard=message.guard,
        fail=_reaction(message, "fail", _CHECK.fail),
        inconclusive=_reaction(message, "inconclusive", _CHECK.inconclusive),
        no_data=_reaction(message, "no_data", _CHECK.no_data),
        error=_reaction(message, "error", _CHECK.error),
        passes=message.passes or 1,
        initial_delay_s=_seconds(message, "initial_delay", 0.0),
        dry_run=message.dry_run,
    )


def _reaction(message: messages.ReleaseCheck, name: Any, usual: Reaction) -> Reaction:
    if not message.HasField(name):
        return usual
    given = getattr(message, name)
    return Reaction(_enum(POLICIES, given.policy, usual.policy, "policy for a verdict"), given.limit)


def _external(message: messages.ReleaseExternal) -> External:
    return External(
        message.name,
        _seconds(message, "timeout", 3600.0),
        _enum(SILENCES, message.on_timeout, OnTimeout.HOLD, "policy for silence"),
        _enum(SILENCES, message.on_no_go, OnTimeout.HOLD, "policy for a no-go"),
    )


def _deadline(message: messages.ReleasePlan) -> Deadline | None:
    if not message.HasField("deadline"):
        return None
    policy = _enum(POLICIES, message.deadline.policy, Policy.WARN, "policy for a deadline")
    return Deadline(instant(message.deadline.at, "deadline.at"), policy)


def _instant(message: Any, name: str) -> Any:
    return instant(getattr(message, name), name) if message.HasField(name) else None


def _seconds(message: Any, name: str, usual: float) -> float:
    if not message.HasField(name):
        return usual
    try:
        given: timedelta = getattr(message, name).ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is no duration") from None
    return given.total_seconds()


def _enum(known: Mapping[E, Any], number: int, usual: E | None, what: str) -> E:
    if not number and usual is not None:
        return usual
    for value, each in known.items():
        if each == number:
            return value
    raise InvalidRequest(f"{number} is no {what}; expected one of: {', '.join(map(str, known.values()))}")
