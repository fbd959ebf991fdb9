"""Compile a lowered flag: every answer that it can give is made now, and its rule becomes a function over them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from server.core.environments import Bucketing
from server.core.evaluation.arms import NESTED
from server.core.evaluation.code import binder
from server.core.evaluation.compare import text_of
from server.core.evaluation.exporting import Exported, export_flag
from server.core.evaluation.failure import Failure
from server.core.evaluation.lowering import LoweredFlag
from server.core.evaluation.shapes import Reader
from server.core.evaluation.snapshot import Clock, CompiledFlag, Evaluator
from server.core.flags import ValueType
from server.core.json import Json, Scalar
from server.core.resolution import ErrorCode, Reason, Resolution

RuleFunction: TypeAlias = Callable[[Mapping[str, Any], int], Json]


def compile_rule(rule: Json, *, flag_key: str, bucketing: Bucketing) -> RuleFunction:
    """A function that gives a rule's value for (context, now). It raises Failure where evaluation has none."""
    reader = Reader(flag_key=flag_key, bucketing=bucketing)
    shape = reader.value(rule)
    function: RuleFunction = binder(shape, len(reader.constants), False)(*reader.constants, None, None)
    return function


def compile_flag(lowered: LoweredFlag, *, set_metadata: Mapping[str, Scalar], sync: bool = True) -> CompiledFlag:
    """Compile a flag; its metadata lies over the flag set's. Without `sync` no text for in-process clients is kept."""
    metadata = {**set_metadata, **lowered.metadata} if set_metadata else lowered.metadata
    answers = _Answers(lowered, metadata)
    exported = export_flag(lowered, metadata, sync=sync)
    if not lowered.enabled:
        return _constant(lowered, answers.absent(Reason.DISABLED), exported)
    default = lowered.default_variant
    if default is not None and default not in lowered.variants:
        return quarantine(lowered.key, f"default variant {default!r} does not exist", type_=lowered.type)
    if lowered.targeting is None or lowered.targeting == {}:
        reason = Reason.DISABLED if lowered.off else Reason.STATIC
        fixed = answers.absent(Reason.DEFAULT) if default is None else answers.variant(default, reason)
        return _constant(lowered, fixed, exported)
    reader = Reader(flag_key=lowered.key, bucketing=lowered.bucketing)
    shape = reader.result(lowered.targeting, answers.chosen)
    bind = binder(shape, len(reader.constants), True)
    return CompiledFlag(
        key=lowered.key,
        type=lowered.type,
        evaluate=bind(*reader.constants, answers.chosen, answers.failed),
        reads=None if reader.reads_all else frozenset(reader.attributes),
        has_default=default is not None,
        references=lowered.references,
        exported=exported.text,
        digest=exported.digest,
        clock=_clock(reader),
    )


def quarantine(key: str, why: str, *, type_: ValueType | None = None) -> CompiledFlag:
    """A flag that answers ERROR to everything, because its definition cannot be used."""
    answer = Resolution(
        flag_key=key,
        type=type_,
        value=None,
        variant=None,
        reason=Reason.ERROR,
        error_code=ErrorCode.PARSE_ERROR,
        error_message=f"flag {key!r} is quarantined: {why}",
    )
    return CompiledFlag(
        key=key,
        type=type_,
        evaluate=_always(answer),
        reads=frozenset(),
        static=answer,
        quarantine=why,
    )


class _Answers:
    """The resolutions of one flag, each made once.

    It lives as long as the compiled flag, so it keeps nothing of the definition that answers do not need.
    """

    __slots__ = ("default_variant", "key", "made", "metadata", "type", "variants")

    def __init__(self, lowered: LoweredFlag, metadata: Mapping[str, Scalar]) -> None:
        self.key, self.type, self.variants = lowered.key, lowered.type, lowered.variants
        self.default_variant = lowered.default_variant
        self.metadata = metadata
        self.made: dict[str | tuple[str | None, Reason], Resolution] = {}
        """By variant where a rule chose it, which is asked most; else by variant and reason."""

    def variant(self, variant: str, reason: Reason) -> Resolution:
        """A variant's value for a reason."""
        return self._made(variant, reason)

    def absent(self, reason: Reason) -> Resolution:
        """No value: the caller uses its own default."""
        return self._made(None, reason)

    def chosen(self, value: Json) -> Resolution:
        """The answer for the value of a rule. Source: flagd's evaluator, core/pkg/evaluator/json.go."""
        default = self.default_variant
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            # JSON has no other way to write them than null.
            return self._made(default, Reason.DEFAULT)
        name = value if type(value) is str else text_of(value)
        if type(value) not in NESTED:
            found = self.made.get(name)
            if found is not None:
                return found
            if name in self.variants:
                found = self.made[name] = self._answer(name, Reason.TARGETING_MATCH)
                return found
        shown = name if len(name) <= 80 else name[:77] + "..."
        known = ", ".join(list(self.variants)[:20])
        return self._error(ErrorCode.GENERAL, f"targeting chose {shown!r}, which is not one of its variants: {known}")

    def failed(self, error: Exception) -> Resolution:
        """The answer when a rule could not be evaluated."""
        if isinstance(error, Failure):
            return self._error(error.code, str(error).removeprefix(f"flag {self.key!r}: "))
        # The exception's own words may hold parts of the caller's context, so only its kind is told.
        return self._error(ErrorCode.GENERAL, f"its rule could not be evaluated ({type(error).__name__})")

    def _made(self, variant: str | None, reason: Reason) -> Resolution:
        found = self.made.get((variant, reason))
        if found is None:
            found = self.made[variant, reason] = self._answer(variant, reason)
        return found

    def _answer(self, variant: str | None, reason: Reason) -> Resolution:
        return Resolution(
            flag_key=self.key,
            type=self.type,
            value=None if variant is None else self.variants[variant],
            variant=variant,
            reason=reason,
            metadata=self.metadata,
        )

    def _error(self, code: ErrorCode, message: str) -> Resolution:
        return Resolution(
            flag_key=self.key,
            type=self.type,
            value=None,
            variant=None,
            reason=Reason.ERROR,
            metadata=self.metadata,
            error_code=code,
            error_message=f"flag {self.key!r}: {message}",
        )


def _clock(reader: Reader) -> Clock | None:
    if not reader.clock_reads:
        return None
    # Around each instant both comparisons, < and <=, turn within two seconds.
    instants = {
        turn
        for instant in reader.instants
        if math.isfinite(instant)
        for turn in (math.ceil(instant), math.floor(instant) + 1)
    }
    return Clock(tuple(sorted(instants)), every_second=reader.reads_clock_freely)


def _constant(lowered: LoweredFlag, answer: Resolution, exported: Exported) -> CompiledFlag:
    return CompiledFlag(
        key=lowered.key,
        type=lowered.type,
        evaluate=_always(answer),
        reads=frozenset(),
        static=answer,
        has_default=lowered.default_variant is not None,
        references=lowered.references,
        exported=exported.text,
        digest=exported.digest,
    )


def _always(answer: Resolution) -> Evaluator:
    def evaluate(_context: Mapping[str, Any], _now: int) -> Resolution:
        return answer

    return evaluate
