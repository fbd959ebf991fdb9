"""Hold what handlers tell of their evaluations against what they answered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from server.core.evaluation.snapshot import Snapshot
from server.core.flags import ValueType
from server.core.resolution import ErrorCode
from server.live.watch import Hub
from server.operations.counts import EvaluationCounts
from server.rpc.call import Abort
from server.rpc.services import make_services
from tests.fakes import FakeCall, answer, chooses, failure, fake_clock, holder_of, rule_flag, snapshot_of, static_flag
from tests.fakes import struct_bytes as struct

OURS: Final = "/flagstaff.v1.EvaluationService"
V1: Final = "/flagd.evaluation.v1.Service"
V2: Final = "/flagd.evaluation.v2.Service"


def snapshot() -> Snapshot:
    """A flag with a rule, one with a text, and one that fails."""
    broken = failure("broken", ErrorCode.PARSE_ERROR, "its rule is none")
    return snapshot_of(
        chooses("ruled", "plan", lambda plan: plan == "gold"),
        static_flag(answer("text", "hello")),
        rule_flag("broken", lambda context, now: broken, reads=[], type_=ValueType.BOOLEAN),
    )


def field(number: int, content: bytes) -> bytes:
    """One field of a message."""
    return bytes([number << 3 | 2, len(content)]) + content


def request(key: str, plan: str = "gold") -> bytes:
    """A request for one flag."""
    return field(1, key.encode()) + field(2, struct({"plan": plan}))


class Counted:
    """Services, and what they counted."""

    def __init__(self) -> None:
        self._counts = EvaluationCounts()
        services = make_services(holder_of(snapshot()), Hub(), clock=fake_clock, seen_by=self._counts.counter)
        self.table: Any = services.table

    def counts(self) -> dict[tuple[str, str], int]:
        """(protocol, reason or error code) -> number."""
        found: Counter[tuple[str, str]] = Counter()
        for each in self._counts:
            found[each.protocol, each.error_code or each.reason] += each.number
        return dict(found)

    def call(self, path: str, raw: bytes, **sent: str) -> None:
        """One call, whether it is refused or not."""
        try:
            self.table[path].function(raw, FakeCall({name.replace("_", "-"): value for name, value in sent.items()}))
        except Abort:
            return


@pytest.mark.parametrize(
    ("path", "protocol"),
    [(f"{OURS}/Evaluate", "flagstaff"), (f"{V1}/ResolveBoolean", "flagd.v1"), (f"{V2}/ResolveBoolean", "flagd.v2")],
)
@pytest.mark.parametrize("selector", ["", "flagSetId=default/production"])
def test_one_flag(path: str, protocol: str, selector: str) -> None:
    """Every answer counts once by what the caller was told, the first time and later, with a selector and without."""
    counted = Counted()
    for key in ("ruled", "ruled", "broken", "absent"):
        counted.call(path, request(key), flagd_selector=selector)
    counted.call(path, request("ruled", "none"), flagd_selector=selector)

    expected = {"TARGETING_MATCH": 2, "DEFAULT": 1, "PARSE_ERROR": 1, "FLAG_NOT_FOUND": 1}
    assert {(protocol, kind): number for kind, number in expected.items()} == counted.counts()


@pytest.mark.parametrize("selector", ["", "flagSetId=default/production"])
def test_a_wrong_type(selector: str) -> None:
    """Is an error to the caller, so it counts as one."""
    counted = Counted()
    for _ in range(2):
        counted.call(f"{V2}/ResolveBoolean", request("text"), flagd_selector=selector)

    assert {("flagd.v2", "TYPE_MISMATCH"): 2} == counted.counts()


def test_all_flags() -> None:
    """A bulk reply counts each flag."""
    counted = Counted()
    counted.call(f"{V1}/ResolveAll", b"")

    assert {"DEFAULT": 1, "STATIC": 1, "PARSE_ERROR": 1} == {
        kind: number for (_, kind), number in counted.counts().items()
    }


@pytest.mark.parametrize("extra", [0, 200])
@pytest.mark.parametrize("times", [1, 3])
def test_a_batch(extra: int, times: int) -> None:
    """Each flag for each context, however many distinct answers there are, and as often as it is asked for."""
    counted = Counted()
    keys = ["ruled", "text", *(f"absent-{number}" for number in range(extra))] * times
    contexts = [struct({"plan": plan}) for plan in ("gold", "none", "gold")]
    raw = b"".join([field(1, key.encode()) for key in keys] + [field(2, context) for context in contexts])
    asyncio.run(counted.table[f"{OURS}/EvaluateBatch"].function(raw, FakeCall()))

    expected = {"TARGETING_MATCH": 2, "DEFAULT": 1, "STATIC": 3, "FLAG_NOT_FOUND": extra * 3}
    assert {("flagstaff", kind): number * times for kind, number in expected.items() if number} == counted.counts()


async def test_a_stream_of_evaluations() -> None:
    """Counts each message that was evaluated, and none that was refused."""
    counted = Counted()

    async def messages() -> AsyncIterator[bytes]:
        for key in ("ruled", "text"):
            yield field(2, key.encode()) + field(3, struct({"plan": "gold"}))
        yield b"\xff"

    stream = counted.table[f"{OURS}/EvaluateStream"].function(messages(), FakeCall())
    replies = [reply async for reply in stream]

    assert 3 == len(replies)
    assert {("flagstaff", "TARGETING_MATCH"): 1, ("flagstaff", "STATIC"): 1} == counted.counts()
