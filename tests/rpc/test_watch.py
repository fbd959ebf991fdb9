"""Watch: a context's values, and what changes for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.evaluation.difference import changed_flags
from server.core.evaluation.snapshot import Clock, CompiledFlag, Snapshot
from server.core.flags import ValueType
from server.core.limits import WATCHED_KEYS_MAX
from server.core.resolution import Reason, Resolution
from server.live.holder import Serving
from server.live.watch import Hub, SetChange
from server.rpc.call import Abort
from server.rpc.status import Status
from server.rpc.watch import PART_BYTES_MAX, PATH, watch_table
from tests.fakes import DEFAULT_SET, FakeCall, answer, chooses, holder_of, snapshot_of, static_flag, struct
from tests.rpc.conftest import Serve

TIMEOUT_S: Final = 20
NOON: Final = 1_767_225_600
SNAPSHOT, CHANGES, RESYNC, KEEP_ALIVE = "SNAPSHOT", "CHANGES", "RESYNC", "KEEP_ALIVE"


class World:
    """A flag set that changes, and streams that watch it, without a wire."""

    def __init__(self, *flags: CompiledFlag, keep_alive_s: float = TIMEOUT_S) -> None:
        self.hub = Hub()
        self.now = NOON + 0.0
        self.revision = 1
        self.holder = holder_of(snapshot_of(*flags, revision=1))
        self.keep_alive_s = keep_alive_s
        self.table = self._new_table()

    def _new_table(self) -> Any:
        return watch_table(self.holder, self.hub, clock=lambda: self.now, keep_alive_s=self.keep_alive_s)

    def restart(self) -> None:
        """Another life of the server over the same flags."""
        self.hub = Hub()
        self.table = self._new_table()

    def watch(self, context: Mapping[str, Any] | None = None, *keys: str, token: bytes = b"") -> AsyncIterator[bytes]:
        """A new stream."""
        request = ours.WatchRequest(context=struct(context or {}), flag_keys=keys, resume_token=token)
        stream: AsyncIterator[bytes] = self.table[PATH].function(request.SerializeToString(), FakeCall())
        return stream

    def change(self, *flags: CompiledFlag, revision: int = 0) -> None:
        """Commit: these are the flags from now on."""
        self.revision = revision or self.revision + 1
        self._put(snapshot_of(*flags, revision=self.revision))

    def remove(self) -> None:
        """Remove the flag set."""
        self._put(None)

    def _put(self, after: Snapshot | None) -> None:
        before = self.holder.serving.snapshots.get(DEFAULT_SET)
        self.holder.serving = Serving({} if after is None else {DEFAULT_SET: after})
        self.hub.publish([SetChange(DEFAULT_SET, before, after, changed_flags(before, after))])


async def hear(stream: AsyncIterator[bytes]) -> ours.WatchResponse:
    """The next message."""
    return ours.WatchResponse.FromString(await asyncio.wait_for(anext(stream), TIMEOUT_S))


def told(message: ours.WatchResponse) -> tuple[str, dict[str, Any], list[str], int]:
    """A message's kind, values (or error codes) by flag, removed flags and revision."""
    values = {
        each.flag_key: getattr(each, each.WhichOneof("value") or "", None) or ours.ErrorCode.Name(each.error_code)
        for each in message.resolutions
    }
    kind = ours.WatchResponse.Kind.Name(message.kind).removeprefix("KIND_")
    return kind, values, list(message.removed_flag_keys), message.revision


def text(key: str, value: str, **details: Any) -> CompiledFlag:
    """A flag that gives one text, and whose definition is it."""
    return exported(static_flag(answer(key, value, **details)), value + repr(details))


def exported(flag: CompiledFlag, definition: str) -> CompiledFlag:
    """The flag with something that tells its definitions apart."""
    return CompiledFlag(
        flag.key, flag.type, flag.evaluate, flag.reads, flag.static, digest=definition.encode(), clock=flag.clock
    )


def beta(tier: str) -> CompiledFlag:
    """A flag that is on for one tier."""
    return exported(chooses("beta", "tier", lambda given: given == tier), tier)


def opens(instant: int, key: str = "sale") -> CompiledFlag:
    """A flag whose text changes at an instant."""
    before, after = answer(key, "closed", reason=Reason.DEFAULT), answer(key, "open", reason=Reason.TARGETING_MATCH)

    def evaluate(context: Mapping[str, Any], now: int) -> Resolution:
        return after if now >= instant else before

    clock = Clock((instant,))
    return CompiledFlag(key, ValueType.STRING, evaluate, frozenset(), digest=str(instant).encode(), clock=clock)


async def test_all_values_come_first() -> None:
    """With the revision and the flag set."""
    stream = World(text("a", "1"), text("b", "2")).watch()
    message = await hear(stream)

    assert (SNAPSHOT, {"a": "1", "b": "2"}, [], 1) == told(message)
    assert DEFAULT_SET == message.flag_set


async def test_only_what_differs_for_the_context_is_sent() -> None:
    """A change that leaves this context's values alone sends nothing to it."""
    world = World(beta("pro"), text("a", "1"))
    pro, free = world.watch({"tier": "pro"}), world.watch({"tier": "free"})
    await hear(pro), await hear(free)
    world.change(beta("gold"), text("a", "1"))
    world.change(beta("gold"), text("a", "2"))

    assert {"beta", "a"} == told(await hear(pro))[1].keys()
    assert (CHANGES, {"a": "2"}, [], 3) == told(await hear(free))


@pytest.mark.parametrize("change", ["value", "variant", "reason", "metadata", "nothing"])
async def test_answers_are_compared_by_what_clients_see(change: str) -> None:
    """Each part of an answer counts; a definition that gives the same answer does not."""
    changed: dict[str, CompiledFlag] = {
        "value": text("a", "2"),
        "variant": text("a", "1", variant="other"),
        "reason": text("a", "1", reason=Reason.TARGETING_MATCH),
        "metadata": text("a", "1", metadata={"team": "web"}),
        "nothing": exported(static_flag(answer("a", "1")), "written otherwise"),
    }
    world = World(text("a", "1"), text("last", "1"))
    stream = world.watch()
    await hear(stream)
    world.change(changed[change], text("last", "2"))

    assert ({"a", "last"} - ({"a"} if change == "nothing" else set())) == told(await hear(stream))[1].keys()


async def test_flags_come_and_go() -> None:
    """Who watches the whole set gets new flags, and the keys of those that are gone."""
    world = World(text("a", "1"), text("b", "1"))
    stream = world.watch()
    await hear(stream)
    world.change(text("b", "1"), text("c", "1"))

    assert (CHANGES, {"c": "1"}, ["a"], 2) == told(await hear(stream))


async def test_a_flag_that_is_not_there_may_be_asked_for() -> None:
    """It is FLAG_NOT_FOUND until it is created, and again when it is gone; other flags are not sent."""
    world = World(text("a", "1"))
    stream = world.watch({}, "new", "new")

    assert (SNAPSHOT, {"new": "ERROR_CODE_FLAG_NOT_FOUND"}, [], 1) == told(await hear(stream))
    world.change(text("a", "2"), text("new", "1"))
    assert (CHANGES, {"new": "1"}, [], 2) == told(await hear(stream))
    world.change(text("a", "2"))
    assert (CHANGES, {"new": "ERROR_CODE_FLAG_NOT_FOUND"}, ["new"], 3) == told(await hear(stream))


async def test_a_set_may_go_and_come_back() -> None:
    """Its flags are removed, the stream stays, its values come again."""
    world = World(text("a", "1"))
    stream = world.watch()
    await hear(stream)
    world.remove()
    gone = told(await hear(stream))
    world.change(text("a", "1"))

    assert [(CHANGES, {}, ["a"], 1), (CHANGES, {"a": "1"}, [], 2)] == [gone, told(await hear(stream))]


async def test_a_revision_never_goes_back_in_a_stream() -> None:
    """Where the database was put back, the stream ends and its client subscribes again."""
    world = World(text("a", "1"))
    world.change(text("a", "2"), revision=9)
    stream = world.watch()
    token = (await hear(stream)).resume_token
    world.change(text("a", "1"), revision=1)
    with pytest.raises(Abort, match="went back from revision 9 to 1") as ended:
        await hear(stream)
    again = told(await hear(world.watch(token=token)))

    assert (Status.ABORTED, (CHANGES, {"a": "1"}, [], 1)) == (ended.value.code, again)


async def test_values_that_are_pushed_are_counted() -> None:
    """Each of them, and no other that was looked at meanwhile."""
    world, seen = World(beta("pro"), text("a", "1")), list[str]()

    def note(snapshot: Snapshot, answer: Resolution, count: int = 1, /) -> None:
        seen.append(f"{answer.flag_key} at {snapshot.revision}")

    world.table = watch_table(world.holder, world.hub, clock=lambda: world.now, seen=note)
    stream = world.watch({"tier": "free"})
    await hear(stream)
    world.change(beta("gold"), text("a", "2"))
    await hear(stream)

    assert ["a at 1", "a at 2"] == [each for each in seen if each.startswith("a")]
    assert ["beta at 1"] == [each for each in seen if each.startswith("beta")]


async def test_rules_are_looked_at_again_when_their_instant_passes() -> None:
    """Without any commit; a flag that the client does not want wakes nobody."""
    world = World(opens(NOON + 60), text("a", "1"), opens(NOON + 30, key="other"))
    stream = world.watch({}, "sale", "a")
    await hear(stream)
    world.now = NOON + 59.9
    waiting = asyncio.create_task(hear(stream))
    await asyncio.sleep(0.02)
    world.now = NOON + 60.0

    assert (CHANGES, {"sale": "open"}, [], 1) == told(await waiting)


async def test_a_clock_that_is_set_back_takes_answers_back() -> None:
    """What clients hold is what an evaluation would answer."""
    world = World(opens(NOON + 60), text("a", "1"))
    world.now = NOON + 61.0
    stream = world.watch()
    await hear(stream)
    world.now = NOON + 0.0
    world.change(opens(NOON + 60), text("a", "2"))

    assert (CHANGES, {"a": "2", "sale": "closed"}, [], 2) == told(await hear(stream))


async def test_a_sign_of_life_comes_after_silence() -> None:
    """With the revision by now and a token for it, though nothing changed for this context."""
    world = World(text("a", "1"), text("b", "1"), keep_alive_s=0.2)
    stream = world.watch({}, "a")
    await hear(stream)
    waiting = asyncio.create_task(hear(stream))
    await asyncio.sleep(0.05)
    world.change(text("a", "1"), text("b", "2"))
    alive = await waiting

    assert (KEEP_ALIVE, {}, [], 2) == told(alive)
    assert (CHANGES, {}, [], 2) == told(await hear(world.watch({}, "a", token=alive.resume_token)))


async def test_many_values_come_in_parts() -> None:
    """Clients refuse messages of more than 4 MiB: the first part is the snapshot, the last has the token."""
    flags = [text(f"f{number:03}", f"{number:03}" * 20_000) for number in range(100)]
    stream = World(*flags).watch()
    parts = [await hear(stream)]
    while not parts[-1].resume_token:
        parts.append(await hear(stream))

    assert [SNAPSHOT, *[CHANGES] * (len(parts) - 1)] == [told(part)[0] for part in parts]
    assert [flag.key for flag in flags] == [each.flag_key for part in parts for each in part.resolutions]
    assert max(part.ByteSize() for part in parts) < 2 * PART_BYTES_MAX


async def test_too_many_keys_are_refused() -> None:
    """With the bound, and the way to get all."""
    stream = World(text("a", "1")).watch({}, *(f"f{number}" for number in range(WATCHED_KEYS_MAX + 1)))
    with pytest.raises(Exception, match="1001 flags are asked for by key, at most 1000"):
        await hear(stream)


async def test_histories_have_no_gap_and_no_step_back() -> None:
    """Clients that come and go by token hold, in the end, what an evaluation answers; revisions only rise."""
    world = World(text("a", "0"))
    clients = [asyncio.create_task(follow(world, every)) for every in (1, 2, 3, 1000)]
    for number in range(1, 200):
        flags = [text("a", str(number)), *([text("b", str(number // 7))] if number % 5 else [])]
        world.change(*flags, text("end", str(number == 199)))
        if number % 10 == 0:
            await asyncio.sleep(0.003)
    held = await asyncio.wait_for(asyncio.gather(*clients), TIMEOUT_S)

    assert [{"a": "199", "b": "28", "end": "True"}] * 4 == held


async def follow(world: World, every: int) -> dict[str, Any]:
    """Hold the values, open a new stream after some messages; the values at the end."""
    held: dict[str, Any] = {}
    token, revisions = b"", [0]
    while held.get("end") != "True":
        stream = world.watch(token=token)
        for _ in range(every):
            message = await hear(stream)
            kind, values, removed, revision = told(message)
            assert revision >= revisions[-1]
            revisions.append(revision)
            held = values if kind in (SNAPSHOT, RESYNC) else {**without(held, removed), **values}
            token = message.resume_token
            if held.get("end") == "True":
                break
        with suppress(RuntimeError):
            await stream.aclose()  # type: ignore[attr-defined]
    return held


def without(values: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """The values of other keys."""
    return {key: value for key, value in values.items() if key not in keys}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ours.WatchRequest(flag_set="no/such"), grpc.StatusCode.NOT_FOUND),
        (ours.WatchRequest(context=struct({"a": "x" * 70_000})), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_what_cannot_be_taken_is_refused(serve: Serve, request_: Any, code: grpc.StatusCode) -> None:
    """At once, with the status of a single evaluation."""
    running = await serve(text("a", "1"))
    stream = running.channel.unary_stream(PATH)(request_.SerializeToString(), timeout=TIMEOUT_S)

    assert code is await stream.code()


async def test_a_drain_ends_streams(serve: Serve) -> None:
    """With a status that brings clients back, and their places are free."""
    hub = Hub()
    running = await serve(text("a", "1"), hub=hub)
    stream = running.channel.unary_stream(PATH)(b"", timeout=TIMEOUT_S)
    await stream.read()
    running.services.drain.end_streams()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()

    assert (grpc.StatusCode.UNAVAILABLE, 0) == (ended.value.code(), hub.count)
