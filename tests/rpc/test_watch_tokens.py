"""Resume tokens of Watch: what a client gets that comes back."""

import asyncio

import pytest

from server.rpc.watch import watch_table
from tests.rpc.test_watch import CHANGES, NOON, RESYNC, SNAPSHOT, World, beta, hear, opens, text, told


async def test_a_token_gets_what_was_missed() -> None:
    """Exactly what differs for this context, over several changes; nothing where nothing does."""
    world = World(beta("pro"), text("a", "1"), text("b", "1"))
    token = (await hear(world.watch({"tier": "pro"}))).resume_token
    world.change(beta("gold"), text("a", "2"), text("b", "1"))
    world.change(beta("pro"), text("a", "3"))
    missed = await hear(world.watch({"tier": "pro"}, token=token))

    assert (CHANGES, {"a": "3"}, ["b"], 3) == told(missed)
    assert (CHANGES, {}, [], 3) == told(await hear(world.watch({"tier": "pro"}, token=missed.resume_token)))


@pytest.mark.parametrize("token", [b"", b"?", b"x" * 40, b"x" * 41, "other request", "other life", "too old"])
async def test_a_token_that_is_not_understood_gets_everything(token: bytes | str) -> None:
    """Said as RESYNC: malformed, of another request, of a state that this life of the server never saw, or too old."""
    world = World(text("a", "1"))
    given = (await hear(world.watch({"tier": "pro"}))).resume_token if isinstance(token, str) else token
    for number in range(70 if token == "too old" else 1):
        world.change(text("a", str(number)))
    if token == "other life":
        world.restart()
    context = {"tier": "free" if token == "other request" else "pro"}
    kind, values, _, revision = told(await hear(world.watch(context, token=given)))

    assert (SNAPSHOT if token == b"" else RESYNC) == kind
    assert {"a": str(revision - 2)} == values


async def test_a_token_outlives_the_server() -> None:
    """What it was told of is served again after a restart, or by another worker: nothing was missed."""
    world = World(text("a", "1"))
    world.change(text("a", "2"))
    token = (await hear(world.watch())).resume_token
    world.restart()

    assert (CHANGES, {}, [], 2) == told(await hear(world.watch(token=token)))
    world.change(text("a", "3"))
    assert (CHANGES, {"a": "3"}, [], 3) == told(await hear(world.watch(token=token)))


async def test_a_token_is_of_one_database() -> None:
    """One that was made anew comes to the same revision with other flags."""
    world = World(text("a", "1"))
    token = (await hear(world.watch())).resume_token
    world.restart()
    world.change(text("a", "2"), revision=1)
    world.restart()

    assert (RESYNC, {"a": "2"}, [], 1) == told(await hear(world.watch(token=token)))


async def test_a_worker_that_is_behind_catches_up_first() -> None:
    """A client that comes from another worker does not step back to an earlier revision."""
    ahead, world = World(text("a", "1")), World(text("a", "1"))
    ahead.change(text("a", "2"))
    token = (await hear(ahead.watch())).resume_token
    waiting = asyncio.create_task(hear(world.watch(token=token)))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    world.change(text("a", "2"))

    assert (CHANGES, {}, [], 2) == told(await waiting)


async def test_a_revision_that_never_comes_is_waited_for_a_moment_only() -> None:
    """The database may have been put back."""
    ahead, world = World(text("a", "1")), World(text("a", "1"))
    ahead.change(text("a", "2"), revision=9)
    token = (await hear(ahead.watch())).resume_token
    world.table = watch_table(world.holder, world.hub, clock=lambda: world.now, catch_up_s=0.01)

    assert (RESYNC, {"a": "1"}, [], 1) == told(await hear(world.watch(token=token)))


async def test_a_token_is_for_the_request_in_any_order() -> None:
    """Clients write maps and lists as they like."""
    world = World(text("a", "1"), text("b", "1"))
    token = (await hear(world.watch({"x": 1, "y": "2"}, "a", "b"))).resume_token

    assert CHANGES == told(await hear(world.watch({"y": "2", "x": 1}, "b", "a", token=token)))[0]
    assert RESYNC == told(await hear(world.watch({"y": "2", "x": 1}, "b", token=token)))[0]


async def test_a_token_covers_the_time_that_passed() -> None:
    """An instant that passed while the client was away is a change like any other."""
    world = World(opens(NOON + 60), text("a", "1"))
    token = (await hear(world.watch())).resume_token
    world.now = NOON + 61.0

    assert (CHANGES, {"sale": "open"}, [], 1) == told(await hear(world.watch(token=token)))
