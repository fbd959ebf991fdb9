"""Large segments: when a segment is one, what it does in evaluation, and what it does not do elsewhere."""

from dataclasses import replace
from typing import Any, Final

import pytest

from server.core.changes import AddSegmentKeys, Change, PutSegment, RemoveSegmentKeys, apply
from server.core.definitions.documents import read_document, write_document
from server.core.definitions.flagd import left_out, read_flagd, write_flagd
from server.core.definitions.problems import Problems
from server.core.definitions.segments import read_segment, write_segment
from server.core.descriptions.differences import describe_event
from server.core.environments import Environment
from server.core.errors import InvalidRequest, NotFound
from server.core.evaluation.difference import FlagChange, changed_flags
from server.core.evaluation.explain import explain
from server.core.evaluation.exporting import flag_bytes
from server.core.evaluation.snapshots import build_snapshot
from server.core.events import SegmentUpdated
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, Rule, ValueType
from server.core.flagsets import FlagSet
from server.core.keylists import KeyList, key_list
from server.core.resolution import Reason
from server.core.segments import Segment

HERE: Final = Environment("shop", "production")
MANY: Final = [f"user-{number}" for number in range(10_001)]
LARGE: Final = Segment("large", key_list=key_list(MANY))
SMALL: Final = Segment("small", keys=("alice", "bob"))
NESTED: Final = Segment("nested", {"and": [{"$ref": "large"}, {"==": [{"var": "plan"}, "pro"]}]})


def flag(key: str, segment: str = "", **config: Any) -> FlagDefinition:
    """A flag that is on for a segment."""
    rules = (Rule("rule", "on", {"$ref": segment}),) if segment else ()
    return FlagDefinition(
        Flag(key, ValueType.BOOLEAN, {"on": True, "off": False}),
        FlagConfig(**{"rules": rules, "default": "off", **config}),
    )


SET: Final = FlagSet(
    HERE,
    {
        "direct": flag("direct", "large"),
        "nested": flag("nested", "nested"),
        "raw": flag("raw", targeting={"if": [{"$ref": "large"}, "on", "off"]}),
        "requires": flag("requires", prerequisites=(Prerequisite("direct", ("on",)),), default="on", off_variant="off"),
        "off": flag("off", "large", enabled=False, off_variant="off"),
        "other": flag("other", "small"),
    },
    {"large": LARGE, "nested": NESTED, "small": SMALL},
)


@pytest.mark.parametrize(
    ("key", "context", "expected"),
    [
        ("direct", {"targetingKey": "user-7"}, True),
        ("direct", {"targetingKey": "user-10001"}, False),
        ("direct", {"targetingKey": 7}, False),
        ("direct", {}, False),
        ("nested", {"targetingKey": "user-7", "plan": "pro"}, True),
        ("nested", {"targetingKey": "user-7", "plan": "free"}, False),
        ("raw", {"targetingKey": "user-10000"}, True),
        ("requires", {"targetingKey": "user-7"}, True),
        ("requires", {"targetingKey": "eve"}, False),
    ],
)
def test_the_server_looks_keys_up(key: str, context: dict[str, Any], expected: bool) -> None:
    """Wherever the segment stands: in a rule, in another segment, in flagd's targeting, behind a prerequisite."""
    assert expected is build_snapshot(SET, revision=1).resolve(key, context, 0).value


def test_large_and_small_answer_alike() -> None:
    """What a list holds decides, not how it is kept."""
    few = replace(SET, segments={**SET.segments, "large": Segment("large", keys=tuple(MANY[:10_000]))})
    same = replace(SET, segments={**SET.segments, "large": Segment("large", key_list=key_list(MANY[:10_000]))})
    snapshots = [build_snapshot(each, revision=1) for each in (few, same)]
    units: list[Any] = ["user-1", "user-9999", "user-10000", "", None, 1, True, ["user-1"], {}, "us", "\ud800"]
    for unit in units:
        context = {"targetingKey": unit, "plan": "pro"}
        one, other = ([snapshot.resolve(key, context, 0) for key in SET.flags] for snapshot in snapshots)
        assert [(each.variant, each.reason) for each in one] == [(each.variant, each.reason) for each in other]


def test_flags_that_need_it_are_not_sent() -> None:
    """Rather none than another answer than the server's; a flag that is off needs nobody's keys."""
    exported = {key: bool(compiled.exported) for key, compiled in build_snapshot(SET, revision=1).flags.items()}

    assert {"off", "other"} == {key for key, is_sent in exported.items() if is_sent}
    assert ["direct", "nested", "raw", "requires"] == [key for key in SET.flags if not flag_bytes(SET, key)]


def test_other_keys_are_a_change_of_the_flags() -> None:
    """Whoever keeps answers hears that they may have changed, though the flags are sent to nobody."""
    grown = replace(SET, segments={**SET.segments, "large": Segment("large", key_list=key_list([*MANY, "newcomer"]))})
    changes = changed_flags(build_snapshot(SET, revision=1), build_snapshot(grown, revision=2))

    assert dict.fromkeys(("direct", "nested", "raw", "requires"), FlagChange.UPDATE) == changes


def test_a_file_for_flagd_leaves_them_out() -> None:
    """It says which, and is a sound file without them."""
    absent = left_out(SET)
    written = write_flagd(SET)

    assert {("flag", key) for key in ("direct", "nested", "raw", "requires")} | {
        ("segment", "large"),
        ("segment", "nested"),
    } == absent.keys()
    assert {frozenset({"large"})} == set(absent.values())
    assert (["off", "other"], ["small"]) == (list(written["flags"]), list(written["$evaluators"]))
    assert ["off", "other"] == list(read_flagd(written, project="a", environment="b").flag_set.flags)


def test_an_own_file_has_all_keys() -> None:
    """What is written out can be read in again."""
    written = write_document(SET)

    assert sorted(MANY) == written["segments"]["large"]["keys"]
    assert SET == read_document(written).flag_set


def test_a_stored_one_is_known_by_number_and_digest() -> None:
    """A document from outside may not be: its keys would be nowhere."""
    problems = Problems()
    stored = write_segment(replace(LARGE, key_attribute="email", description="Many"))
    head = read_segment("large", stored, problems=problems, path="/s", stored=True)

    assert {"count": 10_001, "digest": LARGE.key_list.digest} == stored["keyList"]  # type: ignore[union-attr]
    assert replace(LARGE, key_attribute="email", description="Many") == head
    assert [] == problems.errors
    read_segment("large", stored, problems=problems, path="/s")
    assert {"/s", "/s/keyList"} == {problem.path for problem in problems.errors}


@pytest.mark.parametrize("head", [{}, {"count": 5, "digest": "d"}, {"count": 20_000}, "many", None])
def test_a_damaged_head_is_refused(head: Any) -> None:
    """With its path."""
    problems = Problems()
    read_segment("large", {"keyList": head}, problems=problems, path="/s", stored=True)

    assert ["/s/keyList"] == [problem.path for problem in problems.errors]


def one(segment: Segment, change: Change) -> Segment:
    """The segment after a change."""
    after, _ = apply(FlagSet(HERE, segments={segment.key: segment}), change)
    return after.segments[segment.key]


def test_a_list_grows_large_and_small_again() -> None:
    """It is large from 10,001 keys on, by whatever way it comes there."""
    small = Segment("s", keys=tuple(MANY[:9_999]))
    grown = one(small, AddSegmentKeys("s", key_list(["zoe", "adam", "user-1"])))
    back = one(grown, RemoveSegmentKeys("s", key_list(["zoe", "nobody"])))

    assert (None, 10_001) == (grown.keys, grown.key_list.count if grown.key_list else 0)
    assert (tuple(sorted([*MANY[:9_999], "adam"])), None) == (back.keys, back.key_list)
    assert grown == one(Segment("s", keys=()), AddSegmentKeys("s", key_list([*MANY[:9_999], "zoe", "adam"])))


def test_a_small_list_keeps_its_order() -> None:
    """New keys come behind those that are there."""
    assert ("alice", "bob", "adam", "zoe") == one(SMALL, AddSegmentKeys("small", key_list(["zoe", "adam", "bob"]))).keys
    assert ("bob",) == one(SMALL, RemoveSegmentKeys("small", key_list(["alice", "eve"]))).keys


def test_what_changes_nothing_is_no_event() -> None:
    """Adding and removing may be repeated."""
    before = FlagSet(HERE, segments={"large": LARGE, "small": SMALL})
    for change in (
        AddSegmentKeys("large", key_list(MANY[:5])),
        RemoveSegmentKeys("large", key_list(["nobody"])),
        AddSegmentKeys("small", key_list(["bob"])),
    ):
        assert () == apply(before, change)[1]


def test_keys_belong_to_a_list_that_is_there() -> None:
    """Neither to a condition nor to nothing."""
    with pytest.raises(InvalidRequest, match="segment 'nested' has a condition"):
        one(NESTED, AddSegmentKeys("nested", key_list(["a"])))
    with pytest.raises(NotFound, match="segment 'none' is not in 'shop/production'"):
        one(NESTED, RemoveSegmentKeys("none", key_list(["a"])))


def test_keys_that_are_not_kept_do_not_come_back() -> None:
    """Of an earlier revision there are number and digest only; other fields can be changed without the keys."""
    head = replace(LARGE, key_list=KeyList(10_001, LARGE.key_list.digest))  # type: ignore[union-attr]
    described = one(LARGE, PutSegment(replace(head, description="Many")))

    assert "Many" == described.description
    with pytest.raises(InvalidRequest, match="comes without its 10001 keys"):
        one(LARGE, PutSegment(replace(head, key_list=KeyList(10_001, "other"))))


def test_a_change_is_told_by_numbers() -> None:
    """Nobody reads a million keys in an audit trail."""
    more = replace(LARGE, key_list=key_list([*MANY, "zoe"]))

    told = describe_event(SegmentUpdated("large", LARGE, more))
    assert 1 == len(told)
    assert told[0].startswith("segment large: large list 10001 keys, digest ")
    assert " -> 10002 keys, digest " in told[0]


def test_without_keys_an_answer_is_an_error() -> None:
    """As of an earlier revision, say: exact, or not at all. Where the keys do not matter, there is an answer."""
    head = replace(LARGE, key_list=KeyList(10_001, "0123456789abcdef"))
    snapshot = build_snapshot(replace(SET, segments={**SET.segments, "large": head}), revision=1)
    answers = [snapshot.resolve(key, {"targetingKey": "user-7"}, 0) for key in ("direct", "other", "off")]

    assert [Reason.ERROR, Reason.DEFAULT, Reason.DISABLED] == [answer.reason for answer in answers]
    assert "the 10001 keys of a large segment (digest 0123456789ab) are not at hand" in answers[0].error_message


def test_an_explanation_says_who_is_in() -> None:
    """As of any other segment."""
    steps = explain(SET, "direct", {"targetingKey": "user-7"}, now=0).steps

    assert "segment large: in" in [step.detail for step in steps]
