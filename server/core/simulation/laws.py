"""Hold a change of shares and splits against the law that nobody is moved who need not be.

Widening a share only adds units, narrowing one only takes some away, and an arm of a split that does not shrink keeps
whom it has. Salts, bucketing keys and the environment's bucketing decide who is where, so these break the law as soon
as one of them changes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from server.core.environments import Bucketing
from server.core.errors import InvalidDefinition
from server.core.evaluation.bucketing import bucket, canonical_cbor, hash32, hash_limits, unit_text
from server.core.evaluation.compare import truthy
from server.core.evaluation.compiler import compile_rule
from server.core.evaluation.failure import Failure
from server.core.evaluation.lowering import write_out
from server.core.flags import FlagConfig, Rule, Serve, Share, Split
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.limits import SHARE_PARTS

Context: TypeAlias = Mapping[str, Any]
DEFAULT: Final = "default"
"""Stands where a rule's id would, for the default's split."""


class Law(StrEnum):
    """What must hold."""

    WIDENING_ONLY_ADDS = "widening-only-adds"
    NARROWING_ONLY_REMOVES = "narrowing-only-removes"
    ARM_KEEPS_ITS_UNITS = "arm-keeps-its-units"
    """An arm whose part of the split does not shrink loses nobody to another arm."""


@dataclass(frozen=True, slots=True)
class BrokenLaw:
    """A law that a change would break, and for how many units of the sample."""

    law: Law
    rule: str
    """The rule's id; "default" for the default's split."""

    unit_count: int
    message: str


def broken_laws(
    before: FlagSet, after: FlagSet, key: str, *, contexts: Sequence[Context], now: int
) -> tuple[BrokenLaw, ...]:
    """The laws that a change of one flag breaks for these units; () for raw targeting, which has no rules to compare.

    Only units that meet a rule's condition before and after are looked at: a change of the condition is no breach.
    """
    if key not in before.flags or key not in after.flags:
        return ()
    return tuple(_Comparison(before, after, key, contexts, now).breaches())


class _Comparison:
    def __init__(self, before: FlagSet, after: FlagSet, key: str, contexts: Sequence[Context], now: int) -> None:
        self.sides = _Side(before, key, now), _Side(after, key, now)
        self.contexts = contexts

    def breaches(self) -> Iterator[BrokenLaw]:
        old, new = self.sides
        rules = {rule.id: rule for rule in new.config.rules}
        for rule in old.config.rules:
            if rule.id in rules:
                yield from self.of_rule(rule, rules[rule.id])
        yield from self.of_split(DEFAULT, old.config.default, new.config.default, units=self.contexts)

    def of_rule(self, before: Rule, after: Rule) -> Iterator[BrokenLaw]:
        old, new = self.sides
        if (old.bucketing, before.share, before.serve) == (new.bucketing, after.share, after.serve):
            return
        meets_old, meets_new = old.condition(before.condition), new.condition(after.condition)
        units = [each for each in self.contexts if meets_old(each) and meets_new(each)]
        yield from self.of_share(before, after, units=units)
        yield from self.of_split(before.id, before.serve, after.serve, units=units)

    def of_share(self, before: Rule, after: Rule, *, units: Sequence[Context]) -> Iterator[BrokenLaw]:
        old, new = self.sides
        places = [(old.is_in(before.share, each), new.is_in(after.share, each)) for each in units]
        width_before, width_after = old.width(before.share), new.width(after.share)
        told = f"the share of rule {before.id} goes from {_percent(width_before)} to {_percent(width_after)}"
        why = self.why(before.share, after.share)
        lost_count = sum(was and not will for was, will in places)
        if width_after >= width_before and lost_count:
            message = f"{told}, and {lost_count} units that were in would be out{why}"
            yield BrokenLaw(Law.WIDENING_ONLY_ADDS, before.id, lost_count, message)
        gained_count = sum(will and not was for was, will in places)
        if width_after <= width_before and gained_count:
            message = f"{told}, and {gained_count} units that were out would be in{why}"
            yield BrokenLaw(Law.NARROWING_ONLY_REMOVES, before.id, gained_count, message)

    def of_split(
        self, rule: str, before: Serve | None, after: Serve | None, *, units: Sequence[Context]
    ) -> Iterator[BrokenLaw]:
        old, new = self.sides
        if not isinstance(before, Split) or not isinstance(after, Split):
            return
        if (old.bucketing, before) == (new.bucketing, after):
            return
        if not _weight(before) or not _weight(after):
            # Not sound, so it cannot be committed either.
            return
        kept = _not_shrunk(before, after)
        arm_before, arm_after = old.arm(before), new.arm(after)
        lost: dict[str, int] = {}
        for each in units:
            was, will = arm_before(each), arm_after(each)
            if was is not None and was in kept and was != will:
                lost[was] = lost.get(was, 0) + 1
        for arm, count in lost.items():
            message = f"{count} units of arm {arm} in the split of {_named(rule)} would get another variant, "
            message += f"though its part does not shrink{self.why(before, after)}"
            yield BrokenLaw(Law.ARM_KEEPS_ITS_UNITS, rule, count, message)

    def why(self, before: Share | Split | None, after: Share | Split | None) -> str:
        """What moves them, as the end of a sentence."""
        old, new = self.sides
        if old.bucketing is not new.bucketing:
            return f": the environment's bucketing goes from {old.bucketing} to {new.bucketing}"
        if before is None or after is None:
            return ": they have no key to bucket by"
        if before.salt != after.salt:
            return f": the salt goes from {before.salt!r} to {after.salt!r}"
        if before.bucket_by != after.bucket_by:
            return f": the bucketing key goes from {before.bucket_by!r} to {after.bucket_by!r}"
        return ": other arms of the split change before it; only neighbours can trade without moving others"


class _Side:
    """One flag before or after, as far as the laws look at it."""

    def __init__(self, flag_set: FlagSet, key: str, now: int) -> None:
        self.key, self.now, self.segments = key, now, flag_set.segments
        self.config: FlagConfig = flag_set.flags[key].config
        self.bucketing = flag_set.environment.bucketing

    def condition(self, condition: Json) -> Callable[[Context], bool]:
        """Whether a unit meets it; one that cannot be evaluated is met by nobody."""
        if condition is None:
            return lambda context: True
        try:
            written = write_out(condition, flag_key=self.key, segments=self.segments)
            rule = compile_rule(written, flag_key=self.key, bucketing=self.bucketing)
        except InvalidDefinition:
            return lambda context: False

        def meets(context: Context) -> bool:
            try:
                return truthy(rule(context, self.now))
            except Failure:
                return False

        return meets

    def width(self, share: Share | None) -> int:
        """How much of all units a share lets in at this time."""
        return SHARE_PARTS if share is None else share.parts_at(self.now)

    def is_in(self, share: Share | None, context: Context) -> bool:
        """Whether a unit is let in."""
        if share is None:
            return True
        hashed = self.hashed(share.salt, context.get(share.bucket_by))
        return hashed is not None and bucket(hashed, SHARE_PARTS) < share.parts_at(self.now)

    def arm(self, split: Split) -> Callable[[Context], str | None]:
        """The arm that a unit gets; None without a bucketing key."""
        limits = hash_limits(tuple(weight for _, weight in split.weights))
        names = [variant for variant, _ in split.weights]

        def arm(context: Context) -> str | None:
            hashed = self.hashed(split.salt, context.get(split.bucket_by))
            return None if hashed is None else names[next(at for at, limit in enumerate(limits) if hashed < limit)]

        return arm

    def hashed(self, salt: str, unit: Json) -> int | None:
        text = unit_text(unit)
        if text is None:
            return None
        salted = f"{salt}:{text}"
        return hash32(canonical_cbor(salted) if self.bucketing is Bucketing.V3 else salted.encode())


def _percent(parts: int) -> str:
    return f"{parts * 100 / SHARE_PARTS:g} %"


def _weight(split: Split) -> int:
    return sum(weight for _, weight in split.weights)


def _named(rule: str) -> str:
    return "the default" if rule == DEFAULT else f"rule {rule}"


def _not_shrunk(before: Split, after: Split) -> frozenset[str]:
    """Arms whose part of the whole is not smaller afterwards; compared as whole numbers."""
    old, new = _parts(before), _parts(after)
    old_sum, new_sum = sum(old.values()), sum(new.values())
    return frozenset(arm for arm, weight in old.items() if new.get(arm, 0) * old_sum >= weight * new_sum)


def _parts(split: Split) -> dict[str, int]:
    parts: dict[str, int] = {}
    for variant, weight in split.weights:
        parts[variant] = parts.get(variant, 0) + weight
    return parts
