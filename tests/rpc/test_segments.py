"""SegmentService over a real server: members of every kind, keys in bulk, and who refers to whom."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import segments_pb2 as messages
from server.core.changes import PutFlag, PutSegment, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.core.keylists import key_list
from server.core.segments import Segment
from server.operations.segments import Segments
from server.operations.writes import Writer
from server.rpc.segments import segment_table
from server.rpc.values import value_of
from tests.rpc.asking import ServiceClient
from tests.rpc.conftest import Serve
from tests.rpc.managing import fixed_management, managing
from tests.store.definitions import at, flag, new_shop, put, segment

HERE: Final = {"project": "shop", "environment": "production"}
MANY: Final = [f"user-{number}" for number in range(10_500)]
PRO: Final = {"==": [{"var": "plan"}, "pro"]}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A database with project shop."""
    engine = new_shop(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def client(serve: Serve, shop: Engine) -> Iterator[ServiceClient]:
    """The service over the shop."""
    with managing(shop) as (_, table):
        yield ServiceClient(serve, table, messages)


def condition(key: str, rule: Any, **fields: Any) -> messages.Segment:
    """A segment of a condition."""
    return messages.Segment(key=key, condition=value_of(rule), **fields)


def listed(key: str, keys: Sequence[str] = (), **fields: Any) -> messages.Segment:
    """A segment of keys."""
    return messages.Segment(key=key, key_list=messages.KeyList(keys=keys, **fields))


def sent(
    key: str, *portions: Sequence[str], last: bool = True, **options: Any
) -> list[messages.ChangeSegmentKeysRequest]:
    """A stream of keys."""
    requests = [messages.ChangeSegmentKeysRequest(keys=keys) for keys in portions or ((),)]
    first = requests[0]
    first.project, first.environment, first.key = "shop", "production", key
    first.options.CopyFrom(common.WriteOptions(**options))
    requests[-1].last = last
    return requests


async def test_segments_of_both_kinds(client: ServiceClient) -> None:
    """A condition, or keys with their attribute; each with the revision that touched it last."""
    made = await client.ask("CreateSegment", by="editor", **HERE, segment=condition("pro", PRO, description="Paying"))
    keys = await client.ask("CreateSegment", **HERE, segment=listed("staff", ["ann", "bob"], attribute="email"))
    found = await client.ask("GetSegment", by="reader", **HERE, key="staff")
    twice = await client.refused("CreateSegment", **HERE, segment=listed("staff"))

    assert condition("pro", PRO, description="Paying", version=2) == made.segment
    assert ["segment pro: created (a condition)"] == list(made.result.changes)
    assert (["ann", "bob"], "email", 2, False, 3) == (
        list(found.segment.key_list.keys),
        found.segment.key_list.attribute,
        found.segment.key_list.count,
        found.segment.key_list.large,
        found.segment.version,
    )
    assert [] == list(keys.segment.key_list.keys)
    assert grpc.StatusCode.ALREADY_EXISTS == twice[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (messages.Segment(key="s"), "either a condition or keys"),
        (condition("s", {"ends_wiht": []}), "/segments/s/condition: unknown operator 'ends_wiht'"),
        (condition("s", {"$ref": "none"}), "segment 'none' does not exist"),
        (condition("s", {"$ref": "s"}), "segments go in a circle: s -> s"),
        (listed("s", ["a", "a"]), "/segments/s/keys/1: 'a' stands twice"),
        (messages.Segment(key=" ", key_list=messages.KeyList()), "begins or ends with a blank"),
    ],
)
async def test_what_is_not_sound_is_refused(client: ServiceClient, given: messages.Segment, message: str) -> None:
    """Whole, with every problem and its path."""
    found = await client.refused("CreateSegment", **HERE, segment=given)

    assert grpc.StatusCode.INVALID_ARGUMENT == found[0]
    assert message in found[1]


async def test_an_update_sets_what_its_mask_names(client: ServiceClient, shop: Engine) -> None:
    """Members take each other's place; a large list stays when only its description changes."""
    put(shop, PutSegment(Segment("large", key_list=key_list(MANY))), PutSegment(segment("s", PRO)))

    async def update(given: messages.Segment, *paths: str) -> messages.Segment:
        reply = await client.ask("UpdateSegment", **HERE, segment=given, update_mask={"paths": paths})
        return reply.segment  # type: ignore[no-any-return]

    described = await update(messages.Segment(key="large", description="Many"), "description")
    by_mail = await update(listed("large", attribute="email"), "key_list.attribute")
    keys = await update(listed("s", ["a"]), "key_list")
    other = await update(condition("s", PRO), "condition")
    none = await client.refused("UpdateSegment", **HERE, segment=listed("large"))

    assert ("Many", 10_500, "targetingKey") == (
        described.description,
        described.key_list.count,
        described.key_list.attribute,
    )
    assert ("Many", 10_500, "email") == (by_mail.description, by_mail.key_list.count, by_mail.key_list.attribute)
    assert (1, value_of(PRO)) == (keys.key_list.count, other.condition)
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (none[0], "update_mask is empty" in none[1])


async def test_a_circle_is_refused_with_its_way(client: ServiceClient, shop: Engine) -> None:
    """Through however many segments it goes."""
    put(
        shop,
        *(PutSegment(segment(key, rule)) for key, rule in (("c", PRO), ("b", {"$ref": "c"}), ("a", {"$ref": "b"}))),
    )
    found = await client.refused(
        "UpdateSegment", **HERE, segment=condition("c", {"$ref": "a"}), update_mask={"paths": ["condition"]}
    )

    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (
        found[0],
        "segments go in a circle: a -> b -> c -> a" in found[1],
    )


async def test_a_stale_update_is_refused(client: ServiceClient, shop: Engine) -> None:
    """By whoever read it before somebody else changed it."""
    put(shop, PutSegment(segment("s", PRO)))
    change = {
        **HERE,
        "segment": messages.Segment(key="s", description="x"),
        "update_mask": {"paths": ["description"]},
        "options": common.WriteOptions(expected_version=2),
    }
    await client.ask("UpdateSegment", **change)

    assert grpc.StatusCode.ABORTED == (await client.refused("UpdateSegment", **change))[0]


async def test_a_segment_in_use_is_not_deleted(client: ServiceClient, shop: Engine) -> None:
    """Those who would miss it are named."""
    put(
        shop,
        PutSegment(segment("s", PRO)),
        PutFlag(flag(rules=[{"id": "r", "condition": {"$ref": "s"}, "serve": "on"}])),
    )
    refused = await client.refused("DeleteSegment", **HERE, key="s")
    put(shop, PutFlag(flag()))
    done = await client.ask("DeleteSegment", by="editor", **HERE, key="s")

    assert (grpc.StatusCode.FAILED_PRECONDITION, True) == (refused[0], "flag 'checkout' would miss it" in refused[1])
    assert ["segment s: removed"] == list(done.result.changes)
    assert grpc.StatusCode.NOT_FOUND == (await client.refused("GetSegment", **HERE, key="s"))[0]


async def test_segments_are_listed_by_page(client: ServiceClient, shop: Engine) -> None:
    """By key, in either order, and by a part of the key; keys are counted and not told."""
    put(shop, *(PutSegment(Segment(key, keys=("x",))) for key in ("beta-1", "Beta_2", "gamma")))
    first = await client.ask("ListSegments", by="reader", **HERE, page_size=2)
    second = await client.ask("ListSegments", **HERE, page_size=2, page_token=first.next_page_token)
    found = await client.ask("ListSegments", **HERE, text="BETA", order_by="key desc")
    literal = await client.ask("ListSegments", **HERE, text="a_")

    assert [["Beta_2", "beta-1"], ["gamma"], ["beta-1", "Beta_2"], ["Beta_2"]] == [
        [each.key for each in page.segments] for page in (first, second, found, literal)
    ]
    assert (3, "", 2) == (first.total_size, second.next_page_token, found.total_size)
    assert (1, []) == (first.segments[0].key_list.count, list(first.segments[0].key_list.keys))


async def test_who_refers_to_a_segment(client: ServiceClient, shop: Engine) -> None:
    """Directly, through other segments, and through prerequisites; the nearest first, each with its way."""
    rule = {"id": "r", "condition": {"$ref": "outer"}, "serve": "on"}
    put(
        shop,
        PutSegment(segment("inner", PRO)),
        PutSegment(segment("outer", {"and": [{"$ref": "inner"}, True]})),
        PutFlag(flag("direct", rules=[{**rule, "condition": {"$ref": "inner"}}])),
        PutFlag(flag("far", rules=[rule])),
        PutFlag(flag("farther", prerequisites=[{"flag": "far", "variants": ["on"]}], offVariant="off")),
    )
    uses = (await client.ask("GetSegmentUsage", by="reader", **HERE, key="inner")).uses

    assert [
        ("flag", "direct", []),
        ("segment", "outer", []),
        ("flag", "far", ["segment outer"]),
        ("flag", "farther", ["flag far", "segment outer"]),
    ] == [(use.kind, use.key, list(use.through)) for use in uses]
    assert grpc.StatusCode.NOT_FOUND == (await client.refused("GetSegmentUsage", **HERE, key="none"))[0]


async def test_keys_come_in_a_stream_and_are_one_commit(client: ServiceClient, shop: Engine) -> None:
    """Those that are there already count as such, so the stream may be sent again."""
    put(shop, PutSegment(Segment("s", keys=("ann",))))
    added = await client.send("AddSegmentKeys", sent("s", MANY[:6_000], MANY[6_000:], ["ann"], request_id="r1"))
    repeated = await client.send("AddSegmentKeys", sent("s", MANY[:6_000], MANY[6_000:], ["ann"], request_id="r1"))
    again = await client.send("AddSegmentKeys", sent("s", MANY))
    removed = await client.send("RemoveSegmentKeys", sent("s", ["ann", "nobody"]), by="editor")

    assert [(10_500, 10_501)] * 2 == [(each.changed, each.count) for each in (added, repeated)]
    assert (0, 10_501, common.OUTCOME_UNCHANGED) == (again.changed, again.count, again.result.outcome)
    assert (1, 10_500, {"production": 4}) == (removed.changed, removed.count, removed.result.revisions)


async def test_a_dry_run_of_keys_adds_none(client: ServiceClient, shop: Engine) -> None:
    """It says how many would come."""
    put(shop, PutSegment(Segment("s", keys=())))
    tried = await client.send("AddSegmentKeys", sent("s", ["a", "b"], dry_run=True))

    assert (2, 2, common.OUTCOME_WOULD_APPLY, 2) == (
        tried.changed,
        tried.count,
        tried.result.outcome,
        at(shop).revision,
    )


async def test_a_stream_without_its_last_message_adds_nothing(client: ServiceClient, shop: Engine) -> None:
    """It may have broken off anywhere."""
    put(shop, PutSegment(Segment("s", keys=())))
    found = await client.unsent("AddSegmentKeys", sent("s", ["a"], ["b"], last=False))

    assert (grpc.StatusCode.INVALID_ARGUMENT, 2) == (found[0], at(shop).revision)
    assert "without its last message" in found[1]


async def test_what_a_stream_of_keys_may_not_be(client: ServiceClient, shop: Engine) -> None:
    """For nobody's segment, for a condition, by a reader, with keys that are none, or for two places."""
    put(shop, PutSegment(segment("s", PRO)), PutSegment(Segment("k", keys=())))
    second = sent("k", ["a"], ["b"])
    second[1].key = "s"
    found = [
        await client.unsent("AddSegmentKeys", sent("none", ["a"])),
        await client.unsent("AddSegmentKeys", sent("s", ["a"])),
        await client.unsent("AddSegmentKeys", sent("k", ["a"]), by="reader"),
        await client.unsent("AddSegmentKeys", sent("k", [""])),
        await client.unsent("AddSegmentKeys", sent("", ["a"])),
        await client.unsent("AddSegmentKeys", second),
        await client.unsent("AddSegmentKeys", []),
    ]

    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert [grpc.StatusCode.NOT_FOUND, invalid, grpc.StatusCode.PERMISSION_DENIED, *[invalid] * 4] == [
        code for code, _ in found
    ]
    assert "only the first message" in found[5][1]


async def test_a_stream_that_says_nothing_makes_room_for_others(serve: Serve, shop: Engine) -> None:
    """Two at a time are taken; one that pauses too long is ended."""
    put(shop, PutSegment(Segment("s", keys=())))
    with fixed_management() as management:
        table = segment_table(management, Segments(shop, Writer(shop)), pause_s=0.2)
        channel = (await serve(table=table)).channel
        method = channel.stream_unary(
            "/flagstaff.v1.SegmentService/AddSegmentKeys",
            request_serializer=messages.ChangeSegmentKeysRequest.SerializeToString,
            response_deserializer=messages.ChangeSegmentKeysResponse.FromString,
        )
        idle = [method() for _ in range(3)]
        for call in idle:
            await call.write(sent("s", ["a"], last=False)[0])
        codes = await asyncio.gather(*(call.code() for call in idle))
        done = await method(iter(sent("s", ["b"])))

    assert ([grpc.StatusCode.DEADLINE_EXCEEDED] * 3, 1) == (codes, done.changed)


async def test_the_keys_of_a_segment_can_be_read_and_looked_up(client: ServiceClient, shop: Engine) -> None:
    """Every one on exactly one page, of a large list as of a small one."""
    put(shop, PutSegment(Segment("large", key_list=key_list(MANY))), PutSegment(Segment("few", keys=("b", "a"))))

    async def pages(key: str, size: int) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = await client.ask("ListSegmentKeys", by="reader", **HERE, key=key, page_size=size, page_token=token)
            found += page.keys
            token = page.next_page_token
            if not token:
                assert len(found) == page.total_size
                return found

    large = await pages("large", 1_000)
    assert (sorted(MANY), ["a", "b"]) == (sorted(large), await pages("few", 1))
    some = ["user-7", "eve", "user-10499", "user-10500"]
    found = await client.ask("FindSegmentKeys", by="reader", **HERE, key="large", keys=some)
    few = await client.ask("FindSegmentKeys", **HERE, key="few", keys=["b", "c"])

    assert (["user-7", "user-10499"], ["b"]) == (list(found.found), list(few.found))
    put(shop, PutSegment(segment("s", PRO)))
    for method, more in (("ListSegmentKeys", {}), ("FindSegmentKeys", {"keys": ["a"]})):
        assert grpc.StatusCode.INVALID_ARGUMENT == (await client.refused(method, **HERE, key="s", **more))[0]


async def test_a_writer_hears_which_flags_are_not_sent(client: ServiceClient, shop: Engine) -> None:
    """When a segment that they need becomes large."""
    rule = {"id": "r", "condition": {"$ref": "s"}, "serve": "on"}
    put(shop, PutSegment(Segment("s", keys=())), PutFlag(flag(rules=[rule])))
    added = await client.send("AddSegmentKeys", sent("s", MANY))

    assert ["flag checkout of production is evaluated by the server only"] == [
        warning.partition(":")[0] for warning in added.result.warnings
    ]


async def test_keys_may_need_approvals_too(client: ServiceClient, shop: Engine) -> None:
    """Then they are asked for, and nothing comes yet."""
    put(shop, PutSegment(Segment("s", keys=())), UpdateEnvironment(approval_policy=ApprovalPolicy(1)))
    asked = await client.send("AddSegmentKeys", sent("s", ["a", "b"], reason="More"), by="editor")
    found = await client.ask("FindSegmentKeys", **HERE, key="s", keys=["a"])

    assert (common.OUTCOME_REQUESTED, 2, 2) == (asked.result.outcome, asked.changed, asked.count)
    assert asked.result.change_request.startswith("cr_")
    assert ([], 2) == (list(found.found), at(shop).revision)
