"""A sample of recent contexts, in memory alone."""

import random

from server.live.recent import CONTEXT_BYTES_KEPT_MAX, FLAG_SETS_MAX, RecentContexts


def test_no_more_than_its_places_are_kept() -> None:
    """Later contexts take the places of earlier ones, one each."""
    recent = RecentContexts(3, chance=lambda: 0.99)
    for number in range(5):
        recent.note("shop/production", b"%d" % number)

    assert [b"0", b"1", b"4"] == recent.of("shop/production")


def test_every_place_can_be_taken() -> None:
    """After many evaluations none of the first is left, so the sample is of lately."""
    recent = RecentContexts(50, chance=random.Random(7).random)
    for number in range(2_000):
        recent.note("shop/production", b"%d" % number)

    assert 50 == len(recent.of("shop/production"))
    assert min(map(int, recent.of("shop/production"))) > 1_000


def test_flag_sets_are_kept_apart() -> None:
    """A sample of one is no sample of another, and only so many are kept."""
    recent = RecentContexts(1)
    for number in range(FLAG_SETS_MAX + 1):
        recent.note(f"shop/{number}", b"x")

    assert ([b"x"], []) == (recent.of("shop/0"), recent.of(f"shop/{FLAG_SETS_MAX}"))


def test_large_and_empty_contexts_are_left_out() -> None:
    """The memory has a bound, and nobody is no unit."""
    recent = RecentContexts(9)
    for context in (b"", b"x" * (CONTEXT_BYTES_KEPT_MAX + 1)):
        recent.note("shop/production", context)

    assert [] == recent.of("shop/production")
