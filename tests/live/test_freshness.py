"""Remember since when each snapshot is served."""

from server.live.freshness import Freshness
from tests.fakes import snapshot_of


def test_each_set_has_its_own_age() -> None:
    """A set that stays the same keeps its instant; a set that is gone is forgotten."""
    freshness = Freshness()
    one, two, three = (snapshot_of(flag_set=f"shop/e{number}") for number in range(3))
    freshness.note({"one": one, "two": two}, now=10.0)
    freshness.note({"one": one, "three": three}, now=20.0)

    assert ({"one": 10.0, "three": 20.0}, 2) == (freshness.loaded_at, freshness.reload_count)


def test_the_same_snapshots_are_no_reload() -> None:
    """The database came back, and nothing had changed."""
    freshness = Freshness()
    snapshot = snapshot_of()
    freshness.note({"one": snapshot}, now=10.0)
    freshness.note({"one": snapshot}, now=20.0)

    assert ({"one": 10.0}, 1) == (freshness.loaded_at, freshness.reload_count)
