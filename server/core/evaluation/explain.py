"""Tell why a flag gives the value that it gives: which rule, which bucket, and what did not match before it."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.core.definitions.fields import write_instant
from server.core.environments import Bucketing
from server.core.errors import InvalidDefinition
from server.core.evaluation.bucketing import bucket, canonical_cbor, hash32, hash_limits, unit_text
from server.core.evaluation.compare import truthy
from server.core.evaluation.compiler import compile_rule
from server.core.evaluation.failure import Failure
from server.core.evaluation.lowering import write_out
from server.core.evaluation.operators import shorthand_hash, unit_hash, weight_of
from server.core.evaluation.snapshot import Snapshot, missing
from server.core.evaluation.snapshots import compile_one
from server.core.flags import TARGETING_KEY, FlagConfig, FlagDefinition, Outside, Rule, Share, Split
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.limits import SHARE_PARTS
from server.core.references import of_rule
from server.core.resolution import Reason, Resolution

DRAWS_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that evaluation looked at, in its order."""

    what: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer, and the steps that led to it."""

    resolution: Resolution
    steps: tuple[Step, ...]


def explain(flag_set: FlagSet, key: str, context: Mapping[str, Any], *, now: int) -> Explanation:
    """Evaluate one flag and tell each step. Never raises; the resolution is the compiled evaluation's own."""
    definition = flag_set.flags.get(key)
    if definition is None:
        answer = missing(flag_set.environment.flag_set, key)
        return Explanation(answer, (Step("flag", "not found", answer.error_message),))
    compiled = compile_one(
        definition, flags=flag_set.flags, segments=flag_set.segments, environment=flag_set.environment
    )
    answer = compiled.evaluate(context, now)
    steps = list(_Narrator(flag_set, definition, context, now).steps())
    return Explanation(answer, (*steps, Step("answer", _shown(answer), answer.error_message)))


class _Narrator:
    """Walks the rich definition as evaluation walks the lowered one."""

    def __init__(self, flag_set: FlagSet, definition: FlagDefinition, context: Mapping[str, Any], now: int) -> None:
        self.flag_set, self.definition, self.context, self.now = flag_set, definition, context, now
        self.key = definition.key
        self.bucketing = flag_set.environment.bucketing

    def steps(self) -> Iterator[Step]:
        config = self.definition.config
        if not self.definition.is_on:
            state = "off" if self.definition.flag.archived_at is None else "archived"
            yield Step("state", state, self._off(config))
            return
        yield Step("state", "on")
        if config.targeting is not None:
            yield from self._raw(config.targeting)
            return
        for prerequisite in config.prerequisites:
            served = self._other(prerequisite.flag)
            met = served in prerequisite.variants
            wanted = " or ".join(prerequisite.variants)
            yield Step(
                f"prerequisite {prerequisite.flag}", "met" if met else "not met", f"serves {served}, needs {wanted}"
            )
            if not met:
                yield Step("off variant", "served", self._off(config))
                return
        unit = self.context.get(TARGETING_KEY)
        for target in config.targets:
            if unit in target.keys:
                yield Step("targets", "matched", f"{TARGETING_KEY} {unit!r} is listed for {target.variant}")
                return
        if config.targets:
            yield Step("targets", "not listed")
        for rule in config.rules:
            done = yield from self._rule(rule)
            if done:
                return
        yield from self._default(config)

    def _rule(self, rule: Rule) -> Generator[Step, None, bool]:
        name = f"rule {rule.id}"
        if not rule.is_asked_at(self.now):
            yield Step(name, "not asked", self._window(rule))
            return False
        matched, detail = self._condition(rule.condition)
        if not matched:
            yield Step(name, "no match", detail)
            return False
        lacking = self._lacking_key(rule)
        place = self._place(rule.share)
        inside = not lacking and (rule.share is None or place is None or place < rule.share.parts_at(self.now))
        if not inside:
            why = lacking or _share(rule.share, place, "outside", self.now)
            after = "the default is served" if rule.outside is Outside.DEFAULT else "the next rule is asked"
            yield Step(name, "matched, but outside", f"{why}; {after}")
            if rule.outside is Outside.DEFAULT:
                yield from self._default(self.definition.config)
                return True
            return False
        inside_share = _share(rule.share, place, "inside", self.now)
        yield Step(name, "matched", "; ".join(part for part in (detail, inside_share) if part))
        if isinstance(rule.serve, Split):
            yield self._split(rule.serve)
        return True

    def _window(self, rule: Rule) -> str:
        if rule.starts_at is not None and self.now < rule.starts_at.timestamp():
            return f"it begins at {write_instant(rule.starts_at)}"
        return "" if rule.ends_at is None else f"it ended at {write_instant(rule.ends_at)}"

    def _place(self, share: Share | None) -> int | None:
        text = None if share is None else unit_text(self.context.get(share.bucket_by))
        return None if share is None or text is None else bucket(self._hashed(f"{share.salt}:{text}"), SHARE_PARTS)

    def _condition(self, condition: Json) -> tuple[bool, str]:
        if condition is None:
            return True, "every unit"
        try:
            matched = truthy(self._value(condition))
            segments = sorted(of_rule(condition))
            seen = (f"segment {key}: {'in' if truthy(self._value({'$ref': key})) else 'not in'}" for key in segments)
            return matched, ", ".join(seen)
        except (Failure, InvalidDefinition) as error:
            return False, str(error)

    def _value(self, rule: Json) -> Json:
        written = write_out(rule, flag_key=self.key, segments=self.flag_set.segments)
        return compile_rule(written, flag_key=self.key, bucketing=self.bucketing)(self.context, self.now)

    def _lacking_key(self, rule: Rule) -> str:
        wanted = [rule.share.bucket_by] if rule.share else []
        wanted += [rule.serve.bucket_by] if isinstance(rule.serve, Split) else []
        lacking = [attribute for attribute in wanted if self.context.get(attribute) in (None, "")]
        return f"the context has no {lacking[0]} to bucket by" if lacking else ""

    def _split(self, split: Split) -> Step:
        total = sum(weight for _, weight in split.weights)
        text = unit_text(self.context.get(split.bucket_by))
        hashed = self._hashed(f"{split.salt}:{text}")
        arm = _arm(hashed, tuple(weight for _, weight in split.weights))
        place = bucket(hashed, total)
        return Step(
            "split", split.weights[arm][0], f"bucket {place} of {total} by {split.bucket_by}, salt {split.salt!r}"
        )

    def _hashed(self, text: str) -> int:
        return hash32(canonical_cbor(text)) if self.bucketing is Bucketing.V3 else hash32(text.encode())

    def _default(self, config: FlagConfig) -> Iterator[Step]:
        if config.default is None:
            yield Step("default", "none", "the caller's own default holds")
        elif isinstance(config.default, str):
            yield Step("default", config.default)
        elif self.context.get(config.default.bucket_by) in (None, ""):
            why = f"the context has no {config.default.bucket_by} to bucket by"
            yield Step("default", "outside its split", f"{why}; {self._off(config)}")
        else:
            yield Step("default", "a split")
            yield self._split(config.default)

    def _off(self, config: FlagConfig) -> str:
        if config.off_variant is None:
            return "no off variant: the caller's own default holds"
        return f"off variant {config.off_variant}"

    def _other(self, key: str) -> str | None:
        definition = self.flag_set.flags.get(key)
        if definition is None or (not definition.is_on and definition.config.off_variant is None):
            return None
        environment = self.flag_set.environment
        compiled = compile_one(
            definition, flags=self.flag_set.flags, segments=self.flag_set.segments, environment=environment
        )
        return Snapshot(environment, 0, {key: compiled}).resolve(key, self.context, self.now).variant

    def _raw(self, targeting: Json) -> Iterator[Step]:
        try:
            written = write_out(targeting, flag_key=self.key, segments=self.flag_set.segments)
            yield from self._draws(written)
            value = compile_rule(written, flag_key=self.key, bucketing=self.bucketing)(self.context, self.now)
            yield Step("targeting", repr(value), "null means the default variant" if value is None else "")
        except (Failure, InvalidDefinition) as error:
            yield Step("targeting", "error", str(error))

    def _draws(self, rule: Json) -> Iterator[Step]:
        """Each `fractional` with constant weights in the rule, whether evaluation comes by it or not."""
        waiting, shown = [rule], 0
        while waiting and shown < DRAWS_SHOWN_MAX:
            node = waiting.pop(0)
            if isinstance(node, dict):
                arms = node.get("fractional")
                if isinstance(arms, list) and len(node) == 1:
                    shown += 1
                    yield self._draw(arms)
                waiting.extend(node.values())
            elif isinstance(node, list):
                waiting.extend(node)

    def _draw(self, arguments: list[Json]) -> Step:
        typed = self.bucketing is Bucketing.V3
        explicit = bool(arguments) and not isinstance(arguments[0], list)
        arms = arguments[1:] if explicit else arguments
        weights = [weight_of(arm[1] if len(arm) > 1 else 1) for arm in arms if isinstance(arm, list) and arm]
        whole = tuple(weight for weight in weights if weight is not None)
        if len(whole) < len(arms) or not sum(whole):
            return Step("fractional", "weights are computed")
        if explicit:
            unit = self._value(arguments[0])
            hashed = unit_hash(unit, self.context, self.key, typed)
        else:
            unit = f"{self.key} + {TARGETING_KEY}"
            hashed = shorthand_hash(self.context, self.key, typed)
        if hashed is None:
            return Step("fractional", "no bucket", "the context has no key to bucket by")
        place = bucket(hashed, sum(whole))
        return Step("fractional", repr(arms[_arm(hashed, whole)][0]), f"bucket {place} of {sum(whole)} by {unit!r}")


def _arm(hashed: int, weights: tuple[int, ...]) -> int:
    return next(index for index, limit in enumerate(hash_limits(weights)) if hashed < limit)


def _share(share: Share | None, place: int | None, side: str, now: int) -> str:
    if share is None or place is None:
        return ""
    parts = share.parts_at(now)
    later = next((step for step in share.steps if step.at.timestamp() > now), None)
    then = "" if later is None else f", below {later.parts} from {write_instant(later.at)} on"
    return f"{side} the share: bucket {place} of {SHARE_PARTS}, let in below {parts}{then} (salt {share.salt!r})"


def _shown(answer: Resolution) -> str:
    if answer.reason is Reason.ERROR:
        return f"error {answer.error_code}"
    return (
        f"{answer.variant} ({answer.reason})"
        if answer.variant is not None
        else f"the caller's default ({answer.reason})"
    )
