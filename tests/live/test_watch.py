"""Subscriptions: bounded, merged, in order."""

import asyncio

import pytest

from server.core.environments import Environment
from server.core.evaluation.difference import FlagChange, changed_flags, merged
from server.core.evaluation.snapshot import Snapshot
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, ValueType
from server.core.flagsets import FlagSet
from server.live import watch
from server.live.turns import AT_ONCE, Turns
from server.live.watch import Hub, Merging, SetChange, Subscription, TooManySubscribers

WRITE, UPDATE, DELETE = FlagChange.WRITE, FlagChange.UPDATE, FlagChange.DELETE


def snapshot(revision: int, **defaults: str) -> Snapshot:
    """Boolean flags with these default variants."""
    flags = {
        key: FlagDefinition(Flag(key, ValueType.BOOLEAN, {"on": True, "off": False}), FlagConfig(default=default))
        for key, default in defaults.items()
    }
    return build_snapshot(FlagSet(Environment("shop", "production"), flags), revision=revision)


def step(revision: int, **flags: FlagChange) -> SetChange:
    """A change of these flags."""
    return SetChange("shop/production", None, snapshot(revision), flags)


def test_difference_names_each_flag() -> None:
    """Written, updated, deleted; a flag that is the same is not named."""
    before, after = snapshot(1, same="on", other="on", gone="on"), snapshot(2, same="on", other="off", new="on")

    assert {"gone": DELETE, "other": UPDATE, "new": WRITE} == changed_flags(before, after)


def test_dependent_counts_when_its_written_out_form_changes() -> None:
    """Clients see the prerequisite written out, so its change is a change of the dependent too."""

    def pair(default: str) -> Snapshot:
        variants = {"on": True, "off": False}
        needed = FlagDefinition(Flag("needed", ValueType.BOOLEAN, variants), FlagConfig(default=default))
        config = FlagConfig(default="on", off_variant="off", prerequisites=(Prerequisite("needed", ("on",)),))
        flag = FlagDefinition(Flag("flag", ValueType.BOOLEAN, variants), config)
        return build_snapshot(FlagSet(Environment("shop", "production"), {"needed": needed, "flag": flag}), revision=1)

    assert {"needed": UPDATE, "flag": UPDATE} == changed_flags(pair("on"), pair("off"))


@pytest.mark.parametrize(
    ("earlier", "later", "together"),
    [
        (None, UPDATE, UPDATE),
        (WRITE, UPDATE, WRITE),
        (WRITE, DELETE, DELETE),
        (UPDATE, DELETE, DELETE),
        (DELETE, WRITE, UPDATE),
    ],
)
def test_changes_merge(earlier: FlagChange | None, later: FlagChange, together: FlagChange) -> None:
    """Who heard of neither needs to know only what they come to; a flag that came and went is said to be gone."""
    assert together == merged(earlier, later)


async def test_subscriber_gets_the_latest_snapshot_once() -> None:
    """Changes that pass while nobody reads are one piece of news."""
    hub = Hub()
    with hub.subscribe("shop/production") as subscription:
        hub.publish([step(1, a=WRITE), step(2, b=WRITE), step(3, a=DELETE)])
        await asyncio.sleep(0.01)
        news = await subscription.take(timeout_s=1)

        assert news is not None and news.snapshot is not None
        assert (3, {"a": DELETE, "b": WRITE}) == (news.snapshot.revision, news.flags)
        assert await subscription.take(timeout_s=0.01) is None


async def test_one_change_is_handed_out_as_it_is() -> None:
    """So that its message need be encoded only once for all."""
    hub = Hub()
    change = step(1, a=WRITE)
    with hub.subscribe("shop/production") as one, hub.subscribe("shop/production") as other:
        hub.publish([change])
        news = [await each.take(timeout_s=1) for each in (one, other)]

        assert [True, True] == [each is not None and each.flags is change.flags for each in news]


async def test_mailbox_is_bounded_by_the_flags() -> None:
    """A thousand commits of one flag leave one entry."""
    hub = Hub()
    with hub.subscribe("shop/production") as subscription:
        for revision in range(1000):
            hub.publish([step(revision, a=UPDATE)])
        await asyncio.sleep(0.05)
        news = await subscription.take(timeout_s=1)

        assert news is not None
        assert {"a": UPDATE} == news.flags
        assert len(hub.recent("shop/production")) == watch.RECENT_CHANGES_MAX


async def test_other_flag_sets_are_not_told() -> None:
    """A change reaches only the subscribers of its flag set."""
    hub = Hub()
    with hub.subscribe("shop/staging") as subscription:
        hub.publish([step(1, a=WRITE)])

        assert await subscription.take(timeout_s=0.02) is None


async def test_recent_changes_are_forgotten_in_time() -> None:
    """They are remembered for clients that come back soon."""
    now = 100.0
    hub = Hub(clock=lambda: now)
    hub.publish([step(1, a=WRITE)])
    assert 1 == len(hub.recent("shop/production"))
    now += watch.RECENT_S + 1

    assert [] == hub.recent("shop/production")


async def test_closing_wakes_everybody() -> None:
    """Who waits is told at once, and so is who comes later."""
    hub = Hub()
    with hub.subscribe("shop/production") as early:
        waiting = asyncio.create_task(early.take(timeout_s=30))
        await asyncio.sleep(0)
        hub.close()

        assert await waiting is None
        with hub.subscribe("shop/production") as late:
            assert (True, True) == (early.closed, late.closed)


async def test_too_many_subscribers_are_refused() -> None:
    """And a place that becomes free is given again."""
    hub = Hub(subscribers_max=1)
    with (
        hub.subscribe("a/b"),
        pytest.raises(TooManySubscribers, match="has 1 open subscriptions"),
        hub.subscribe("a/b"),
    ):
        pass
    with hub.subscribe("a/b"):
        assert 1 == hub.count


async def test_news_wait_for_their_turn() -> None:
    """A change lies in the mailbox at once, but who has no turn yet does not work on it."""
    # On a busy machine a turn may last; nobody is passed over for it here.
    hub = Hub(turns=Turns(slow_s=3600.0))
    heard = list[int]()

    async def read() -> None:
        with hub.subscribe("shop/production") as subscription:
            await subscription.take(timeout_s=60)
            heard.append(1)
            await asyncio.sleep(0)
            await subscription.take(timeout_s=60)

    readers = [asyncio.create_task(read()) for _ in range(2 * AT_ONCE)]
    await asyncio.sleep(0)
    hub.publish([step(1, a=UPDATE)])
    while not heard:
        await asyncio.sleep(0)
    first = len(heard)
    while len(heard) < len(readers):
        await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)

    assert (AT_ONCE, 0) == (first, hub.count)


async def test_who_leaves_with_a_turn_gives_it_back() -> None:
    """A call that is cancelled between its waking and its work holds up nobody."""
    turns = Turns(at_once=1, slow_s=3600.0)
    one, other = (Subscription("shop/production", turns) for _ in range(2))
    waiting = [asyncio.create_task(each.take(timeout_s=60)) for each in (one, other)]
    await asyncio.sleep(0)
    change = step(1, a=UPDATE)
    for each in (one, other):
        each.put(change, Merging(change))
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert not waiting[1].done()
    one.end()
    news = await waiting[1]
    other.end()

    assert news is not None and {"a": UPDATE} == news.flags


async def test_those_who_missed_the_same_get_the_same() -> None:
    """Their message is encoded once, also when several changes are merged in it."""
    hub = Hub()
    with hub.subscribe("shop/production") as one, hub.subscribe("shop/production") as other:
        hub.publish([step(1, a=WRITE), step(2, b=WRITE)])
        await asyncio.sleep(0.01)
        first, second = await one.take(timeout_s=1), await other.take(timeout_s=1)

        assert first is not None and second is not None
        assert {"a": WRITE, "b": WRITE} == first.flags
        assert first.flags is second.flags


async def test_a_later_time_is_kept_by_the_same_timer() -> None:
    """One that rings too early for the present wait is set again, and nobody is woken by it."""
    subscription = Subscription("shop/production", Turns())
    change = step(1, a=UPDATE)
    first = asyncio.create_task(subscription.take(timeout_s=0.01))
    await asyncio.sleep(0)
    subscription.put(change, Merging(change))
    assert await first is not None
    second = asyncio.create_task(subscription.take(timeout_s=60))
    await asyncio.sleep(0.05)
    assert not second.done()
    subscription.put(change, Merging(change))
    assert await second is not None
    assert await subscription.take(timeout_s=0) is None
    subscription.end()
