"""Draw up the steps of a release: curves of shares, canaries, blue-green switches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from server.core.errors import InvalidRequest
from server.core.flags import TARGETING_KEY, Rule, Serve, Split
from server.core.json import Json
from server.core.limits import RELEASE_STEPS_MAX, SHARE_PARTS
from server.core.releases.plan import Gates, Patch, Step

GEOMETRIC: Final = (1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000)
"""1, 2, 5, 10, 25, 50 and 100 %."""

CANARY: Final = (1_000, 5_000, 10_000, 25_000, 50_000)
CONTROL: Final = "control"
PREVIEW: Final = "preview"
NO_GATES: Final = Gates()


def linear(first: int, last: int, by: int) -> tuple[int, ...]:
    """Shares from one to another by equal increments; the last one is met exactly. Units: parts of SHARE_PARTS.

    Errors: InvalidRequest when it does not rise, or takes too many steps.
    """
    if not (0 <= first <= last <= SHARE_PARTS and by > 0):
        raise InvalidRequest(f"a line from {first / 1000:g} % to {last / 1000:g} % by {by / 1000:g} % does not rise")
    if (last - first) / by >= RELEASE_STEPS_MAX:
        raise InvalidRequest(f"that takes more than {RELEASE_STEPS_MAX} steps; rise by more at once")
    shares = tuple(range(first, last, by))
    return (*shares, last)


def geometric(first: int = 0, last: int = SHARE_PARTS) -> tuple[int, ...]:
    """1, 2, 5, 10, 25, 50, 100 % as far as they lie between the two, and the last one. Units: parts of SHARE_PARTS."""
    return (*(each for each in GEOMETRIC if first <= each < last), last)


def progressive(
    shares: Sequence[int], patch: Patch, *, gates: Gates = NO_GATES, last_gates: Gates = NO_GATES
) -> tuple[Step, ...]:
    """A step for each share: the first has all of the patch, the others set the share alone."""
    later = Patch(patch.environment, patch.flag, patch.rule)
    return tuple(
        Step(
            (replace(later if index else patch, share_parts=parts),),
            last_gates if index == len(shares) - 1 else gates,
            f"{parts / 1000:g} %",
        )
        for index, parts in enumerate(shares)
    )


@dataclass(frozen=True, slots=True)
class Canary:
    """What is tried, and against what. Where both are served is a rule's place, or the default's."""

    environment: str
    flag: str
    treatment: str
    baseline: str
    """What everybody got so far, and all outside the two slices still get."""

    baseline_value: Json
    rule: str = ""
    control: str = CONTROL
    """A variant of the baseline's value, so that its slice can be told apart in what is measured."""

    bucket_by: str = TARGETING_KEY


def canary_split(canary: Canary, parts: int) -> Split:
    """Treatment `[0, c)`, everybody else, and control `[1 - c, 1)` of one hash: both slices grow, nobody changes sides.

    Errors: InvalidRequest when the slices would meet.
    """
    if not 0 < parts <= SHARE_PARTS // 2:
        raise InvalidRequest(
            f"a canary of {parts / 1000:g} % has no equal control beside it; it goes from 0.001 % to 50 %"
        )
    rest = SHARE_PARTS - 2 * parts
    middle = ((canary.baseline, rest),) if rest else ()
    place = canary.rule or "default"
    weights = ((canary.treatment, parts), *middle, (canary.control, parts))
    return Split(weights, f"{canary.flag}/{place}/split", canary.bucket_by)


def canary_steps(
    canary: Canary, shares: Iterable[int], *, gates: Gates = NO_GATES, last_gates: Gates = NO_GATES
) -> tuple[Step, ...]:
    """A step for each size of the slices, and one in which everybody gets the treatment."""
    here = Patch(canary.environment, canary.flag, canary.rule)
    variants = {canary.control: canary.baseline_value}
    slices = tuple(
        Step(
            (replace(here, serve=canary_split(canary, parts), variants={} if index else variants),),
            gates,
            f"{parts / 1000:g} % beside {parts / 1000:g} %",
        )
        for index, parts in enumerate(shares)
    )
    return (*slices, Step((replace(here, serve=canary.treatment),), last_gates, "everybody"))


@dataclass(frozen=True, slots=True)
class Switched:
    """One flag of a blue-green release."""

    environment: str
    flag: str
    preview: str
    """The variant that is looked at first, and then served to all."""

    rule: str = ""
    """Where it is switched; "" for what is served when no rule matches."""


def blue_green_steps(
    flags: Sequence[Switched], audience: Json, *, before: Gates = NO_GATES, after: Gates = NO_GATES
) -> tuple[Step, ...]:
    """A preview for the audience; then one switch of all flags for everybody, with a way back while `after` waits.

    `before` are the checks of the preview; the least time of `after` is how long the old side is kept warm.
    """
    preview = [
        Patch(each.environment, each.flag, add_rule=Rule(PREVIEW, each.preview, audience), add_first=True)
        for each in flags
    ]
    switch = [Patch(each.environment, each.flag, each.rule, serve=each.preview, remove_rule=PREVIEW) for each in flags]
    return (Step(tuple(preview), before, "preview"), Step(tuple(switch), after, "switched"))


def curved(steps: Sequence[tuple[int, Gates]], patch: Patch) -> tuple[Step, ...]:
    """Steps of shares that have gates of their own, as a template keeps them."""
    later = Patch(patch.environment, patch.flag, patch.rule)
    return tuple(
        Step((replace(later if index else patch, share_parts=parts),), gates, f"{parts / 1000:g} %")
        for index, (parts, gates) in enumerate(steps)
    )


def describe_patch(patch: Patch) -> str:
    """What a patch sets, for people: `new-checkout in production: share of rule beta 10 %`."""
    where = f"rule {patch.rule}" if patch.rule else "the default"
    said: list[str] = []
    if patch.add_rule is not None:
        said.append(f"rule {patch.add_rule.id} added, serving {_served(patch.add_rule.serve)}")
    if patch.share_parts is not None:
        said.append(f"share of {where} {patch.share_parts / 1000:g} %")
    if patch.serve is not None:
        said.append(f"{where} serves {_served(patch.serve)}")
    if patch.sets_condition:
        said.append(f"another condition of {where}")
    if patch.enabled is not None:
        said.append("on" if patch.enabled else "off")
    if patch.prerequisites is not None:
        said.append(f"requires {', '.join(each.flag for each in patch.prerequisites) or 'nothing'}")
    if patch.variants:
        said.append(f"variants {', '.join(sorted(patch.variants))}")
    if patch.remove_rule:
        said.append(f"rule {patch.remove_rule} removed")
    return f"{patch.flag} in {patch.environment}: {'; '.join(said)}"


def _served(serve: Serve) -> str:
    if isinstance(serve, str):
        return serve
    total = sum(weight for _, weight in serve.weights) or 1
    return ", ".join(f"{variant} {weight / total:.3%}".replace(".000%", " %") for variant, weight in serve.weights)


def shares_of(steps: Sequence[Step]) -> Mapping[int, int]:
    """Step -> the largest share that it sets, where it sets one."""
    found = {
        index: max((each.share_parts for each in step.patches if each.share_parts is not None), default=None)
        for index, step in enumerate(steps)
    }
    return {index: parts for index, parts in found.items() if parts is not None}
