"""A flag that is off serves its off variant, whatever else it says."""

from dataclasses import replace
from typing import Any

from hypothesis import given

from server.core.evaluation.snapshots import build_snapshot
from server.core.flagsets import FlagSet
from server.core.resolution import Reason
from tests import strategies
from tests.laws.sizes import tried


@tried(150, long=5_000)
@given(strategies.flag_sets(), strategies.contexts())
def test_kill_switch(flag_set: FlagSet, context: dict[str, Any]) -> None:
    """With enabled=False every flag gives its off variant, or leaves the value to the caller."""
    killed = {
        key: replace(
            definition,
            flag=replace(definition.flag, archived_at=None),
            config=replace(definition.config, enabled=False),
        )
        for key, definition in flag_set.flags.items()
    }
    snapshot = build_snapshot(replace(flag_set, flags=killed), revision=1)
    for key, definition in killed.items():
        answer = snapshot.resolve(key, context, strategies.TIMESTAMP)
        off = definition.config.off_variant
        value = None if off is None else definition.flag.variants[off]

        assert (off, value, Reason.DISABLED, None) == (answer.variant, answer.value, answer.reason, answer.error_code)
