"""Lowering and compiling a definition gives what the definition says, read directly."""

import math
from dataclasses import replace
from typing import Any

from hypothesis import assume, given

from server.core.evaluation.snapshots import build_snapshot
from server.core.flagsets import FlagSet
from server.core.resolution import Reason
from tests import strategies
from tests.laws import dependent, odd
from tests.laws.agreement import same_value
from tests.laws.sizes import tried
from tests.oracle.interpreter import Interpreter
from tests.oracle.javascript import to_javascript
from tests.reference import resolve

NOW = strategies.TIMESTAMP


def check(flag_set: FlagSet, context: dict[str, Any]) -> None:
    """Hold every flag of a set to the reference: variant, reason, error code; the value is the variant's."""
    snapshot = build_snapshot(flag_set, revision=1)
    for key, definition in flag_set.flags.items():
        # A definition that grows beyond our bounds is set apart; the reference knows no bounds.
        assume(not snapshot.flags[key].quarantine)
        expected = resolve(
            definition,
            context,
            now=NOW,
            flags=flag_set.flags,
            segments=flag_set.segments,
            bucketing=flag_set.environment.bucketing,
        )
        answered = snapshot.resolve(key, context, NOW)
        assert expected == (answered.variant, answered.reason, answered.error_code), (key, answered)
        value = None if answered.variant is None else definition.flag.variants[answered.variant]
        assert same_value(to_javascript(value), to_javascript(answered.value))


@tried(300, long=20_000)
@given(strategies.flag_sets(), strategies.contexts())
def test_snapshot_resolves_as_the_definition_says(flag_set: FlagSet, context: dict[str, Any]) -> None:
    """Flags with rules, shares, splits, segments and prerequisites, or with raw targeting."""
    check(flag_set, context)


@tried(300, long=20_000)
@given(dependent.flag_sets(), odd.contexts())
def test_prerequisites_are_asked_as_themselves(flag_set: FlagSet, context: dict[str, Any]) -> None:
    """A flag that another one requires answers as it would alone, whatever its raw targeting does."""
    assume(is_finite(flag_set, context))
    check(flag_set, context)


def is_finite(flag_set: FlagSet, context: dict[str, Any]) -> bool:
    """Whether flag "base" gives no NaN or infinity, which alone is null but inside another flag is no variant."""
    injected = to_javascript({**context, "$flagd": {"flagKey": "base", "timestamp": NOW}})
    bucketing = flag_set.environment.bucketing.value
    interpreter = Interpreter(injected, flag_key="base", bucketing=bucketing, segments=flag_set.segments)
    result = interpreter.apply(to_javascript(flag_set.flags["base"].config.targeting), injected)
    return not isinstance(result, float) or math.isfinite(result)


@tried(50, long=1_000)
@given(strategies.flag_sets())
def test_archived_flags_are_off(flag_set: FlagSet) -> None:
    """A flag that was archived answers as it would if it were off, also to those who require it."""
    archived = {key: each for key, each in flag_set.flags.items() if each.flag.archived_at is not None}
    off = {
        key: replace(each, flag=replace(each.flag, archived_at=None), config=replace(each.config, enabled=False))
        for key, each in archived.items()
    }
    served = build_snapshot(flag_set, revision=1)
    expected = build_snapshot(replace(flag_set, flags={**flag_set.flags, **off}), revision=1)

    assert [repr(expected.resolve(key, {}, NOW)) for key in flag_set.flags] == [
        repr(served.resolve(key, {}, NOW)) for key in flag_set.flags
    ]
    assert all(served.resolve(key, {}, NOW).reason is Reason.DISABLED for key in archived)
