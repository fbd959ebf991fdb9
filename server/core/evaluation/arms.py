"""Read the arms of a split as they stand in a rule."""

from typing import Final

from server.core.evaluation import operators
from server.core.json import Json
from server.core.limits import WEIGHT_SUM_MAX

NESTED: Final = frozenset({list, dict})
"""Types that may hold logic; JSON has no subclass of them."""


_SIDES: Final = 2


def is_arm(arm: Json) -> bool:
    """Whether it is a value, with or without a weight."""
    return isinstance(arm, list) and 1 <= len(arm) <= 2


def arms_after_unit(arguments: list[Json]) -> list[Json]:
    """What of `fractional`'s arguments are arms: all but the first when that is none."""
    return arguments[1:] if arguments and not isinstance(arguments[0], list) else arguments


def constant_weights(arms: list[Json]) -> tuple[int, ...] | None:
    """The weights when none is computed: () when `fractional` is null for them, None when one is computed."""
    given = [arm[1] if len(arm) > 1 else 1 for arm in arms if isinstance(arm, list) and is_arm(arm)]
    if not NESTED.isdisjoint(map(type, given)):
        return None
    weights = [operators.weight_of(weight) for weight in given]
    whole = tuple(weight for weight in weights if weight is not None)
    if len(whole) < len(arms) or not 0 < sum(whole) <= WEIGHT_SUM_MAX:
        return ()
    return whole


def share_arms(operands: list[Json]) -> list[Json] | None:
    """The arms where `===` compares a constant split over texts with a text, as shares are lowered; else None."""
    split, arm = operands if len(operands) == _SIDES else (None, None)
    arguments = split.get("fractional") if isinstance(split, dict) and len(split) == 1 else None
    if type(arm) is not str or not isinstance(arguments, list):
        return None
    arms = arms_after_unit(arguments)
    texts = all(isinstance(each, list) and is_arm(each) and type(each[0]) is str for each in arms)
    return arms if texts and constant_weights(arms) else None
