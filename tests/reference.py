"""Interpret flag definitions slowly and obviously, as the standard that the compiler must equal.

JsonLogic follows json-logic-js 2.0.5 (`logic.js`), flagd's operators follow flagd 0.16 for bucketing v2
and the ADR fractional-non-string-rand-units for v3. Nothing here knows the compiler or the lowering;
`resolve` reads rich definitions as they are.

Corners, decided as JavaScript decides them:

- every number is a double; 2**53 + 1 equals 2**53, and 33333.0 is written 33333;
- a missing argument is `undefined`: `{"==": [null]}` is true, `{"===": [null]}` is false;
- texts are ordered by UTF-16 code unit, and have `length` and positions in `var`, as arrays do;
- `===`, `in` and `==` between two arrays or objects are true only for the same one;
- `+` and `*` read with parseFloat ("3 apples" is 3), `-`, `/`, `%`, `<` with ToNumber ("3 apples" is NaN);
- `+` of nothing is 0, `*` of one operand is that operand, `min` of nothing is infinite;
- `var` gives its default for what is absent, but null for what is null;
- an object with no key or several keys is a value, and its content is not evaluated;
- NaN and infinities live inside a rule and are null in its result.

Corners where JavaScript's answer would be an accident, decided by us:

- texts are counted and cut by character, where JavaScript cuts a character beyond U+FFFF in half;
- what an object inherits (`{"var": "toString"}`) is absent;
- keys given to `missing` and `missing_some` are names only and are never evaluated again as rules;
- where json-logic-js throws a TypeError (`{"*": []}`, `missing_some` of null) the rule fails: PARSE_ERROR;
- `?:`, `log` and operators with a dot are not in flagd's schema, hence unknown: PARSE_ERROR;
- a negative third operand of `substr` is a number, also when it is written as a text;
- the whole context (`{"var": ""}`) is a new object whenever it is asked for, so it does not equal itself;
- the first operand of `fractional` is a bucketing value unless it is written as an array; one that turns out to
  be an array, or for v2 anything but a text or null, gives null;
- the arms of `fractional` are written as arrays; all weights are evaluated, but only the variant that is picked,
  and it is given back whatever it is;
- an argument of `sem_ver` is a text or a number; anything else gives null (flagd), also `["1.0.0"]`;
- `fractional` without a bucketing value reads `targetingKey` where `var` would read it, in the item inside
  `map` and its like; the flag's key is always the flag's own;
- half of a surrogate pair hashes as U+FFFD.
"""

from collections.abc import Mapping

from server.core.flags import TARGETING_KEY, FlagDefinition, Outside, Rule, Serve, Share, Split
from server.core.json import Json, JsonObject
from server.core.limits import SHARE_PARTS
from server.core.segments import Segment
from tests.oracle import javascript as js
from tests.oracle.canonical import canonical_cbor
from tests.oracle.interpreter import Interpreter, RuleFailure, lookup, pick, position, utf8

__all__ = ["Answer", "RuleFailure", "evaluate_rule", "resolve"]

Answer = tuple[str | None, str, str | None]
"""(variant, reason, error code); the variant is None when the caller's own default holds."""


def evaluate_rule(
    rule: Json,
    context: JsonObject,
    *,
    flag_key: str,
    now: int,
    bucketing: str = "v2",
    segments: Mapping[str, Segment] | None = None,
) -> Json:
    """The result of one targeting rule in one context at one second.

    Errors: RuleFailure when an unknown operator or segment is reached.
    """
    injected = js.to_javascript({**context, "$flagd": {"flagKey": flag_key, "timestamp": now}})
    interpreter = Interpreter(injected, flag_key=flag_key, bucketing=str(bucketing), segments=segments or {})
    return js.to_json(interpreter.apply(js.to_javascript(rule), injected))


def resolve(
    definition: FlagDefinition,
    context: JsonObject,
    *,
    now: int,
    flags: Mapping[str, FlagDefinition],
    segments: Mapping[str, Segment],
    bucketing: str = "v2",
) -> Answer:
    """What a flag answers, read off its rich definition: never lowered, never compiled."""
    return Resolver(context, now, flags, segments, str(bucketing)).resolve(definition)


class Resolver:
    """One context at one second, in which several flags are asked."""

    def __init__(
        self,
        context: JsonObject,
        now: int,
        flags: Mapping[str, FlagDefinition],
        segments: Mapping[str, Segment],
        bucketing: str,
    ) -> None:
        self.context = context
        self.now = now
        self.flags = flags
        self.segments = segments
        self.bucketing = bucketing

    def resolve(self, definition: FlagDefinition) -> Answer:
        """The flag's answer; an error is an answer."""
        try:
            return self.answer(definition)
        except RuleFailure as failure:
            return None, "ERROR", failure.code

    def answer(self, definition: FlagDefinition) -> Answer:
        """Disabled, prerequisites, targets, rules, default: the first that decides."""
        config = definition.config
        if not config.enabled or definition.flag.archived_at is not None:
            return config.off_variant, "DISABLED", None
        if config.targeting not in (None, {}):
            return self.raw(definition)
        if not all(self.meets(wanted.flag, wanted.variants) for wanted in config.prerequisites):
            return self.matched(config.off_variant)
        key = self.attribute(TARGETING_KEY)
        for target in config.targets:
            if key in target.keys:
                return self.matched(target.variant)
        for rule in config.rules:
            if not self.matches(definition, rule):
                continue
            variant = self.served(rule)
            if variant is not None:
                return self.matched(variant)
            if rule.outside is Outside.DEFAULT:
                break
        return self.default(definition)

    def raw(self, definition: FlagDefinition) -> Answer:
        """Raw targeting: its result names a variant, or null asks for the default."""
        result = self.evaluate(definition, definition.config.targeting)
        if result is None:
            return self.default(definition)
        if isinstance(result, list | dict):
            raise RuleFailure("GENERAL", "the result is no variant")
        variant = js.to_text(js.to_javascript(result))
        if variant not in definition.flag.variants:
            raise RuleFailure("GENERAL", f"{variant!r} is no variant")
        return self.matched(variant)

    def default(self, definition: FlagDefinition) -> Answer:
        """The default variant or split; the off variant for a unit without key."""
        config = definition.config
        if isinstance(config.default, Split):
            variant = self.split(config.default)
            return self.unmatched(config.off_variant) if variant is None else self.matched(variant)
        if config.prerequisites and config.off_variant is None:
            # flagd's null must mean the caller's default here, so this default is chosen by name.
            return self.matched(config.default)
        if config.targeting not in (None, {}) or config.prerequisites or config.targets or config.rules:
            return self.unmatched(config.default)
        return config.default, "DEFAULT" if config.default is None else "STATIC", None

    def unmatched(self, variant: str | None) -> Answer:
        """What holds when nothing was chosen."""
        return variant, "DEFAULT", None

    def matched(self, variant: str | None) -> Answer:
        """A variant that was chosen, or the caller's own default."""
        return (None, "DEFAULT", None) if variant is None else (variant, "TARGETING_MATCH", None)

    def meets(self, flag: str, variants: tuple[str, ...]) -> bool:
        """Whether another flag serves one of these variants to the same context."""
        try:
            served, _, _ = self.answer(self.flags[flag])
        except RuleFailure as failure:
            if failure.code == "GENERAL":  # What was served is no variant, so it is none of these.
                return False
            raise
        return served in variants

    def matches(self, definition: FlagDefinition, rule: Rule) -> bool:
        """Whether the rule is asked at this second and its condition is met; no condition always is."""
        if rule.starts_at is not None and self.now < rule.starts_at.timestamp():
            return False
        if rule.ends_at is not None and self.now >= rule.ends_at.timestamp():
            return False
        return rule.condition is None or js.truthy(js.to_javascript(self.evaluate(definition, rule.condition)))

    def served(self, rule: Rule) -> str | None:
        """The variant of a matching rule; None for a unit outside its share or without key."""
        if rule.share is not None and not self.inside(rule.share):
            return None
        return self.serve(rule.serve)

    def serve(self, serve: Serve) -> str | None:
        """A variant, or the unit's arm of a split."""
        return self.split(serve) if isinstance(serve, Split) else serve

    def inside(self, share: Share) -> bool:
        """Whether the unit's slot is below the share's parts."""
        slot = self.slot(share.salt, share.bucket_by, SHARE_PARTS)
        parts = share.parts
        for step in share.steps:
            if self.now >= step.at.timestamp():
                parts = step.parts
        return slot is not None and slot < parts

    def split(self, split: Split) -> str | None:
        """The unit's arm; None without key."""
        slot = self.slot(split.salt, split.bucket_by, sum(weight for _, weight in split.weights))
        if slot is None:
            return None
        return str(pick(list(split.weights), slot))

    def slot(self, salt: str, bucket_by: str, total: int) -> int | None:
        """The place of `salt:unit` in 0..total-1; None when the unit is absent, null or empty."""
        unit = self.attribute(bucket_by)
        if unit is js.UNDEFINED or unit is None or unit == "":
            return None
        text = f"{salt}:{js.to_text(unit)}"
        return position(canonical_cbor(text) if self.bucketing == "v3" else utf8(text), total)

    def attribute(self, path: str) -> object:
        """An attribute of the context, in JavaScript's values."""
        return lookup(js.to_javascript(self.context), path)

    def evaluate(self, definition: FlagDefinition, rule: Json) -> Json:
        """One rule of one flag in this context."""
        return evaluate_rule(
            rule,
            self.context,
            flag_key=definition.key,
            now=self.now,
            bucketing=self.bucketing,
            segments=self.segments,
        )
