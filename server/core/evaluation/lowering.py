"""Lower a stored definition to flagd's published form: one JsonLogic rule, with segments and prerequisites written out.

The lowered form is the only one that is evaluated, here and by in-process providers, so the two cannot disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from server.core.environments import Bucketing
from server.core.errors import InvalidDefinition, Problem
from server.core.evaluation.arms import NESTED
from server.core.evaluation.compare import number_text, to_number
from server.core.evaluation.shapes import LOOPS
from server.core.flags import TARGETING_KEY, FlagDefinition, Outside, Prerequisite, Rule, Serve, Share, Split, ValueType
from server.core.json import Json, Scalar
from server.core.limits import LOWERED_DEPTH_MAX, LOWERED_NODES_MAX, SHARE_PARTS
from server.core.segments import Segment

_NOW: Final[Json] = {"var": "$flagd.timestamp"}
_AROUND_RULE_MAX: Final = 16
"""More operators than lowering nests around a rule's condition, without prerequisites."""

_WRITING_DEPTH_MAX: Final = 2 * LOWERED_DEPTH_MAX + 8
"""Lists and objects around a reference; each takes some of Python's stack, so it is held while writing out."""


@dataclass(frozen=True, slots=True)
class LoweredFlag:
    """A flag as flagd knows it."""

    key: str
    type: ValueType
    variants: Mapping[str, Json]
    enabled: bool
    default_variant: str | None
    targeting: Json
    """JsonLogic without references; None when every context gets the default variant. An `in` may have a KeyList."""

    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    off: bool = False
    """The flag is off and serves its off variant: for flagd an enabled flag without targeting."""

    bucketing: Bucketing = Bucketing.V2
    references: frozenset[tuple[str, str]] = frozenset()
    """("flag", key) and ("segment", key) that were written out."""

    large_segments: frozenset[str] = frozenset()
    """Segments whose keys stand in the rule as a KeyList, which no other engine knows: the flag is evaluated here."""

    def to_flagd(self) -> dict[str, Json]:
        """The flag in flagd's file format, with nothing that its schema does not know."""
        flag: dict[str, Json] = {"state": "ENABLED" if self.enabled else "DISABLED", "variants": dict(self.variants)}
        if self.default_variant is not None:
            flag["defaultVariant"] = self.default_variant
        if self.targeting is not None:
            flag["targeting"] = self.targeting
        if self.metadata:
            flag["metadata"] = dict(self.metadata)
        return flag


def lower_flag(
    definition: FlagDefinition,
    *,
    flags: Mapping[str, FlagDefinition],
    segments: Mapping[str, Segment],
    bucketing: Bucketing,
) -> LoweredFlag:
    """Write one flag out.

    Errors: InvalidDefinition when what is written out passes LOWERED_NODES_MAX or LOWERED_DEPTH_MAX, or goes round in
    a circle. A segment or prerequisite that does not exist is left for evaluation to report.
    """
    return _Lowering(flags, segments, bucketing, definition.key).flag(definition)


def write_out(rule: Json, *, flag_key: str, segments: Mapping[str, Segment]) -> Json:
    """One condition with its segments written out. Errors: InvalidDefinition, as lower_flag."""
    return _Lowering({}, segments, Bucketing.V2, flag_key).written_out(rule)


class _Lowering:
    """The lowering of one flag: what it may refer to, and what it has used so far."""

    def __init__(
        self,
        flags: Mapping[str, FlagDefinition],
        segments: Mapping[str, Segment],
        bucketing: Bucketing,
        key: str,
    ) -> None:
        self.flags, self.segments, self.bucketing, self.key = flags, segments, bucketing, key
        self.references: set[tuple[str, str]] = set()
        self.large: set[str] = set()
        self.nodes = 0
        self.depth = 0
        self.path: list[tuple[str, str]] = []

    def flag(self, definition: FlagDefinition) -> LoweredFlag:
        flag, config = definition.flag, definition.config
        targeting: Json = None
        default: str | None = config.default if isinstance(config.default, str) else None
        off = not definition.is_on and config.off_variant is not None
        if off:
            default = config.off_variant
        elif definition.is_on and config.targeting is not None:
            targeting = self.written_out(config.targeting)
        elif definition.is_on:
            default, targeting = self.configured(definition)
        lowered = LoweredFlag(
            key=flag.key,
            type=flag.type,
            variants=flag.variants,
            enabled=definition.is_on or off,
            default_variant=default,
            targeting=targeting,
            metadata=flag.metadata,
            off=off,
            bucketing=self.bucketing,
            references=frozenset(self.references),
            large_segments=frozenset(self.large),
        )
        # Depth cannot pass the number of operators: those that were counted, and a few around each rule.
        may_be_deep = config.prerequisites or self.nodes > LOWERED_DEPTH_MAX - _AROUND_RULE_MAX
        if may_be_deep and _depth(targeting) > LOWERED_DEPTH_MAX:
            raise self.refused(f"nests more than {LOWERED_DEPTH_MAX} operators with its segments and prerequisites")
        return lowered

    def configured(self, definition: FlagDefinition) -> tuple[str | None, Json]:
        """Default variant and targeting of a flag with targets, prerequisites, rules and a default."""
        config = definition.config
        default, otherwise = self.default(definition)
        chain: list[Json] = []
        if config.prerequisites:
            met = [self.prerequisite(prerequisite) for prerequisite in config.prerequisites]
            chain += [{"!": [met[0] if len(met) == 1 else {"and": met}]}, config.off_variant]
        for target in config.targets:
            chain += [{"in": [{"var": TARGETING_KEY}, list(target.keys)]}, target.variant]
        for rule in config.rules:
            chain += self.rule(rule, otherwise)
        if not chain:
            return default, otherwise
        return default, {"if": [*chain, otherwise] if otherwise is not None else chain}

    def default(self, definition: FlagDefinition) -> tuple[str | None, Json]:
        """Default variant, and what stands at the end of the rules; null there means the default variant."""
        config = definition.config
        if isinstance(config.default, Split):
            return config.off_variant, _guarded(config.default)
        if config.prerequisites and config.off_variant is None and config.default is not None:
            # An unmet prerequisite must leave the value to the caller, so null may not mean this default.
            return None, config.default
        return config.default, None

    def rule(self, rule: Rule, otherwise: Json) -> list[Json]:
        asked = _window(rule) if rule.condition is None else [*_window(rule), self.written_out(rule.condition)]
        serve = _served(rule.serve)
        inside = _inside(rule.share, rule.serve)
        if rule.share is not None and rule.share.steps:
            self.count(inside)
        if not inside:
            return [_all(asked), serve]
        if rule.outside is Outside.DEFAULT:
            return [_all(asked), {"if": [_all(inside), serve, otherwise]}]
        return [_all([*asked, *inside]), serve]

    def prerequisite(self, prerequisite: Prerequisite) -> Json:
        """A rule that tells whether another flag serves one of the wanted variants."""
        definition = self.flags.get(prerequisite.flag)
        self.references.add(("flag", prerequisite.flag))
        if definition is None:
            return False
        self.enter("flag", prerequisite.flag)
        other = self.flag(definition)
        self.path.pop()
        if not other.enabled:
            return False
        if other.targeting is None:
            return other.default_variant in prerequisite.variants
        wanted = [spelling for variant in prerequisite.variants for spelling in _spellings(variant)]
        if other.default_variant in prerequisite.variants:
            wanted.append(None)
        self.count(other.targeting)
        return {"in": [_in_the_name_of(prerequisite.flag, other.targeting, self.bucketing), wanted]}

    def written_out(self, rule: Json) -> Json:
        """The rule with every `$ref` replaced by its segment's rule; parts without one are shared, not copied."""
        size = _size_without_reference(rule)
        self.nodes += size or 1
        if self.nodes > LOWERED_NODES_MAX:
            raise self.refused(f"has more than {LOWERED_NODES_MAX} nodes with its segments and prerequisites")
        if size:
            return rule
        self.depth += 1
        if self.depth > _WRITING_DEPTH_MAX:
            raise self.refused(f"nests more than {LOWERED_DEPTH_MAX} operators with its segments and prerequisites")
        written = self.replaced(rule)
        self.depth -= 1
        return written

    def replaced(self, rule: Json) -> Json:
        """A rule that holds a reference, with its parts written out."""
        if isinstance(rule, dict):
            reference = rule.get("$ref") if len(rule) == 1 else None
            if isinstance(reference, str):
                return self.segment(reference)
            written = {name: self.written_out(operand) for name, operand in rule.items()}
            return written if any(written[name] is not rule[name] for name in rule) else rule
        if isinstance(rule, list) and any(isinstance(item, dict | list) for item in rule):
            items = [self.written_out(item) for item in rule]
            return items if any(new is not old for new, old in zip(items, rule, strict=True)) else rule
        return rule

    def segment(self, key: str) -> Json:
        segment = self.segments.get(key)
        self.references.add(("segment", key))
        if segment is None:
            return {"$ref": key}
        if segment.keys is not None:
            return {"in": [{"var": segment.key_attribute}, list(segment.keys)]}
        if segment.key_list is not None:
            self.large.add(key)
            return {"in": [{"var": segment.key_attribute}, segment.key_list]}
        self.enter("segment", key)
        rule = self.written_out(segment.condition)
        self.path.pop()
        return rule

    def enter(self, kind: str, key: str) -> None:
        if (kind, key) in self.path or (kind, key) == ("flag", self.key):
            raise self.refused(f"refers to itself through {kind} {key!r}")
        self.path.append((kind, key))

    def count(self, rule: Json) -> None:
        self.nodes += _size(rule)
        if self.nodes > LOWERED_NODES_MAX:
            raise self.refused(f"has more than {LOWERED_NODES_MAX} nodes with its segments and prerequisites")

    def refused(self, message: str) -> InvalidDefinition:
        escaped = self.key.replace("~", "~0").replace("/", "~1")
        return InvalidDefinition([Problem(f"/flags/{escaped}", message)])


def _inside(share: Share | None, serve: Serve) -> list[Json]:
    """Conditions for being let in: a bucketing key for the share and the split, and a place inside the share."""
    keys = [share.bucket_by] if share else []
    if isinstance(serve, Split) and serve.bucket_by not in keys:
        keys.append(serve.bucket_by)
    gates: list[Json] = [_has_key(attribute) for attribute in keys]
    if share:
        gates.append(_let_in(share, share.parts) if not share.steps else {"if": _by_time(share)})
    return gates


def _by_time(share: Share) -> list[Json]:
    """The latest step whose instant has come, or what the share was before all of them."""
    chain: list[Json] = []
    for step in reversed(share.steps):
        chain += [_from(step.at), _let_in(share, step.parts)]
    return [*chain, _let_in(share, share.parts)]


def _let_in(share: Share, parts: int) -> Json:
    # Arms are texts: older providers take nothing else, and write a page of warnings for each share, or let nobody in.
    arms = [["in", parts], ["out", SHARE_PARTS - parts]]
    return {"===": [{"fractional": [_salted(share.salt, share.bucket_by), *arms]}, "in"]}


def _window(rule: Rule) -> list[Json]:
    """Conditions for being asked at this time."""
    begun = [] if rule.starts_at is None else [_from(rule.starts_at)]
    return begun if rule.ends_at is None else [*begun, {"<": [_NOW, _seconds(rule.ends_at)]}]


def _from(at: datetime) -> Json:
    return {">=": [_NOW, _seconds(at)]}


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _all(conditions: list[Json]) -> Json:
    if len(conditions) == 1:
        return conditions[0]
    return {"and": conditions} if conditions else True


def _served(serve: Serve) -> Json:
    if isinstance(serve, str):
        return serve
    return {"fractional": [_salted(serve.salt, serve.bucket_by), *([name, weight] for name, weight in serve.weights)]}


def _guarded(split: Split) -> Json:
    """A split that gives null to a unit without its bucketing key, which a bare hash would put in one fixed arm."""
    return {"if": [_has_key(split.bucket_by), _served(split)]}


def _has_key(attribute: str) -> Json:
    return {"!": [{"in": [{"var": attribute}, [None, ""]]}]}


def _salted(salt: str, attribute: str) -> Json:
    return {"cat": [f"{salt}:", {"var": attribute}]}


def _spellings(variant: str) -> list[Json]:
    """The values of a rule that choose this variant: its key, or the boolean or number that is written so."""
    if variant in ("true", "false"):
        return [variant, variant == "true"]
    number = to_number(variant)
    return [variant, number] if number == number and number_text(number) == variant else [variant]


def _in_the_name_of(key: str, rule: Json, bucketing: Bucketing) -> Json:
    """Another flag's targeting, so written that it means the same inside a different flag."""
    if isinstance(rule, list):
        return [_in_the_name_of(key, item, bucketing) for item in rule]
    if not isinstance(rule, dict):
        return rule
    if len(rule) == 1:
        ((name, operand),) = rule.items()
        variable = operand[0] if isinstance(operand, list) and operand else operand
        if name == "var" and variable == "$flagd.flagKey":
            # A text by itself would be taken for a literal where an operator's schema expects an expression.
            return {"cat": [key]}
        if name in LOOPS and isinstance(operand, list):
            # A loop's body sees the item, where neither the flag's key nor the targeting key is.
            outside = {0, 2}
            named = [_in_the_name_of(key, item, bucketing) for item in operand]
            return {name: [named[place] if place in outside else item for place, item in enumerate(operand)]}
        if name == "fractional" and isinstance(operand, list) and bucketing is Bucketing.V2:
            return _named_fractional(key, [_in_the_name_of(key, item, bucketing) for item in operand])
    return {name: _in_the_name_of(key, operand, bucketing) for name, operand in rule.items()}


def _named_fractional(key: str, arguments: list[Json]) -> Json:
    """`fractional` whose shorthand names the flag that it was written for.

    Version 2 only: version 3's shorthand cannot be written out and is refused in a prerequisite.
    """
    first = arguments[0] if arguments else None
    if arguments and first is not None and not isinstance(first, list):
        if isinstance(first, str) or (isinstance(first, dict) and "cat" in first):
            return {"fractional": arguments}
        shorthand = _named_fractional(key, arguments[1:])
        return {"if": [{"===": [first, None]}, shorthand, {"fractional": arguments}]}
    arms = arguments if isinstance(first, list) else arguments[1:]
    unit: Json = {"var": TARGETING_KEY}
    # The shorthand takes no key but a text that is not empty; `cat` alone would take anything.
    is_text = {"and": [{"!==": [unit, ""]}, {"===": [{"cat": [unit]}, unit]}]}
    return {"if": [is_text, {"fractional": [{"cat": [key, unit]}, *arms]}]}


def _size_without_reference(rule: Json) -> int:
    """Nodes of a rule without a `$ref`, the usual case; 0 when it has one. Items of literal lists do not count."""
    found = [rule]
    # The list grows while it is walked.
    for node in found:
        kind = type(node)
        if kind is dict:
            if "$ref" in node:
                return 0
            found += node.values()
        elif kind is list and not NESTED.isdisjoint(map(type, node)):
            found += node
    return len(found)


def _size(rule: Json) -> int:
    if isinstance(rule, dict):
        return 1 + sum(map(_size, rule.values()))
    if isinstance(rule, list):
        return 1 + sum(_size(item) for item in rule if isinstance(item, dict | list))
    return 1


def _depth(rule: Json) -> int:
    """Nested operators; counted level by level, so that a deep rule cannot exhaust the stack."""
    depth, level = 0, [rule]
    while level:
        below: list[Any] = []
        operators = False
        for part in level:
            operands: Sequence[Any] = ()
            if isinstance(part, dict):
                operators, operands = True, list(part.values())
            elif isinstance(part, list):
                operands = part
            below += [operand for operand in operands if isinstance(operand, dict | list)]
        depth, level = depth + operators, below
    return depth
