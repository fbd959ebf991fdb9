"""A canary's slices grow beside each other, and nobody changes sides."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.core.environments import Bucketing
from server.core.flags import FlagConfig
from server.core.releases.recipes import Canary, canary_split
from tests.laws.configurations import snapshot, variants
from tests.laws.sizes import tried

UNITS = [f"user-{number}" for number in range(300)]
CANARY = Canary("production", "flag", "a", "b", baseline_value="b", control="c")


@tried(100, long=2_000)
@given(st.lists(st.integers(1, 50_000), min_size=2, max_size=6).map(sorted), st.sampled_from(list(Bucketing)))
def test_slices_grow_and_nobody_changes_sides(parts: list[int], bucketing: Bucketing) -> None:
    """Whoever has the treatment keeps it, and whoever is its control stays so; both slices are equal in size."""
    growing = snapshot(*(FlagConfig(default=canary_split(CANARY, each)) for each in parts), bucketing=bucketing)
    served = [variants(growing, index, UNITS) for index in range(len(parts))]

    for before, after in pairwise(served):
        assert all(one in (other, "b") for one, other in zip(before, after, strict=True))
    for each, split in zip(parts, (canary_split(CANARY, each) for each in parts), strict=True):
        assert split.weights[0][1] == split.weights[-1][1] == each
        assert sum(weight for _, weight in split.weights) == 100_000
