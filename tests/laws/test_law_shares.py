"""A share grows without moving anybody, and is independent of the split inside it."""

from itertools import pairwise
from statistics import NormalDist
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.core.environments import Bucketing
from server.core.flags import FlagConfig, Outside, Rule, Share, Split
from server.core.limits import SHARE_PARTS
from tests.laws.configurations import config, even, snapshot, variants
from tests.laws.sizes import tried

UNITS = [f"user-{number}" for number in range(300)]

salts = st.text(max_size=12)
splits = st.builds(
    lambda weights, salt: Split(tuple(zip("abc", weights, strict=True)), salt),
    st.lists(st.integers(0, 1_000), min_size=3, max_size=3).filter(any),
    salts,
)
bucketings = st.sampled_from(list(Bucketing))


@tried(200, long=5_000)
@given(st.lists(st.integers(0, SHARE_PARTS), min_size=2, max_size=6).map(sorted), salts, splits, bucketings)
def test_widening_a_share_evicts_nobody(parts: list[int], salt: str, split: Split, bucketing: Bucketing) -> None:
    """Every unit inside a share is inside every wider one, and keeps its variant."""
    widening = snapshot(*(config(Share(part, salt), split) for part in parts), bucketing=bucketing)
    served = [variants(widening, index, UNITS) for index in range(len(parts))]
    moved = [
        (unit, before, after)
        for narrow, wide in pairwise(served)
        for unit, before, after in zip(UNITS, narrow, wide, strict=True)
        if before not in ("off", after)
    ]

    assert moved == []


@tried(200, long=5_000)
@given(st.integers(1, SHARE_PARTS), salts, splits, st.sampled_from(list(Outside)), bucketings)
def test_a_whole_share_is_no_share(parts: int, salt: str, split: Split, outside: Outside, bucketing: Bucketing) -> None:
    """Inside a share everybody has the variant that the split alone gives; outside nobody has."""
    rule = Rule(id="rule", serve=split, share=Share(parts, salt), outside=outside)
    narrow = FlagConfig(rules=(rule,), default="off")
    both = snapshot(narrow, config(None, split), config(Share(SHARE_PARTS, salt), split), bucketing=bucketing)
    inside, alone, whole = (variants(both, index, UNITS) for index in range(3))

    assert alone == whole
    assert all(one in ("off", other) for one, other in zip(inside, alone, strict=True))


def test_nobody_is_inside_an_empty_share() -> None:
    """A share of 0 lets nobody in."""
    assert ["off"] * len(UNITS) == variants(snapshot(config(Share(0, "salt"), "a")), 0, UNITS)


def test_share_is_as_wide_as_it_says() -> None:
    """Of 20,000 units a share of 20 % lets in 20 %, within the binomial's 99.99 %."""
    served = variants(snapshot(config(Share(20_000, "salt"), "a")), 0, range(20_000))

    assert abs(served.count("a") - 4_000) < deviation(20_000, 0.2)


def test_split_inside_a_share_is_even() -> None:
    """Of the 20 % let in, a split in halves takes half: share and split have salts of their own."""
    for number in range(10):
        flag = snapshot(config(Share(20_000, f"share-{number}"), even(f"split-{number}")))
        served = variants(flag, 0, range(10_000))
        inside = len(served) - served.count("off")

        assert abs(served.count("a") - inside / 2) < deviation(inside, 0.5)


def test_one_salt_for_both_would_be_uneven() -> None:
    """The counterexample: with one salt, all units of a narrow share are in the split's first arm."""
    served = variants(snapshot(config(Share(20_000, "salt"), even("salt"))), 0, range(2_000))

    assert {"a", "off"} == set(served)


def deviation(count: int, chance: float) -> float:
    """How far a count may be from its mean, by the normal law at 99.99 %."""
    far = NormalDist().inv_cdf(0.99995)
    return float(far * (count * chance * (1 - chance)) ** 0.5)


@tried(200, long=5_000)
@given(st.integers(-(2**53), 2**53), st.integers(0, SHARE_PARTS), salts, splits, bucketings)
def test_numbers_and_texts_are_one_unit(number: int, parts: int, salt: str, split: Split, bucketing: Bucketing) -> None:
    """33333, 33333.0 and "33333" are inside the same shares and get the same variants."""
    flag = snapshot(config(Share(parts, salt), split), bucketing=bucketing)
    units: list[Any] = [number, float(number), str(number)]

    assert len(set(variants(flag, 0, units))) == 1


@tried(100, long=2_000)
@given(st.sampled_from((None, "")), st.integers(0, SHARE_PARTS), salts, splits, st.booleans(), bucketings)
def test_a_unit_without_key_is_outside(
    unit: str | None, parts: int, salt: str, split: Split, shared: bool, bucketing: Bucketing
) -> None:
    """Absent, null or empty: outside every share and split, also of 100 %; never in bucket 0."""
    flag = snapshot(
        config(Share(parts, salt) if shared else None, split),
        config(Share(parts, salt), "a"),
        FlagConfig(off_variant="off", default=split),
        bucketing=bucketing,
    )
    answers = [variants(flag, index, [unit]) for index in range(3)]
    absent = [[flag.resolve(f"flag-{index}", {}, 0).variant] for index in range(3)]

    assert [["off"]] * 3 == answers == absent
