"""What is said to be served to everybody is served to everybody."""

from datetime import UTC, datetime

from hypothesis import assume, given
from hypothesis import strategies as st

from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import TARGETING_KEY, FlagDefinition, Share, Split
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.resolution import Reason
from server.core.staleness import served_to_all
from tests.laws.sizes import tried
from tests.strategies import TIMESTAMP, contexts, flag_sets

NOW = datetime.fromtimestamp(TIMESTAMP, UTC)


def buckets(definition: FlagDefinition) -> set[str]:
    """What a flag's shares and splits bucket by."""
    config = definition.config
    parts = [*(part for rule in config.rules for part in (rule.share, rule.serve)), config.default]
    return {each.bucket_by for each in parts if isinstance(each, Share | Split)}


@tried(200, long=5_000)
@given(flag_sets(), st.lists(contexts(), min_size=1, max_size=5))
def test_one_variant_is_what_everybody_gets(flag_set: FlagSet, asked: list[dict[str, Json]]) -> None:
    """Whatever their context: those who have what the flag buckets by get that variant, or an error."""
    claimed = {
        key: served
        for key, each in flag_set.flags.items()
        if (served := served_to_all(each, NOW)) is not None and buckets(each) <= {TARGETING_KEY}
    }
    assume(claimed)
    snapshot = build_snapshot(flag_set, revision=1)
    units: list[dict[str, Json]] = [{**context, TARGETING_KEY: "alice"} for context in asked]
    got = [
        (key, resolution.variant, served.variant)
        for key, served in claimed.items()
        for context in units
        if (resolution := snapshot.resolve(key, context, TIMESTAMP)).reason is not Reason.ERROR
    ]

    assert [] == [each for each in got if each[1] != each[2]]
