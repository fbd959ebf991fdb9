"""Descriptions miss nothing and invent nothing, whatever was changed."""

import json

from hypothesis import given
from hypothesis import strategies as st

from server.core.definitions.flags import write_flag
from server.core.descriptions.differences import Subject, describe, describe_documents
from server.core.descriptions.parts import moved
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.core.json import Json
from tests.laws.sizes import tried
from tests.strategies import flag_definitions, flag_sets

SEGMENTS = ("beta", "vip")
OTHERS = ("pay", "new-ui")
flags = flag_definitions(segments=SEGMENTS, prerequisites=OTHERS)
documents: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from((0.0, 1.0, -0.0, "", "on", "\x1b[1m"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(("rules", "id", "serve", "share", "weights", "targets", "keys")), inner),
    ),
    max_leaves=12,
)


@tried(150, long=20_000)
@given(flags, flags)
def test_only_equal_flags_have_no_differences(before: FlagDefinition, after: FlagDefinition) -> None:
    """diff(a, a) is empty, and diff(a, b) is not, where a and b are written differently."""
    is_same = json.dumps(write_flag(before)) == json.dumps(write_flag(after))

    assert is_same is (describe(before, after) == ())
    assert () == describe(before, before)


@tried(150, long=20_000)
@given(flag_sets(), flag_sets())
def test_only_equal_environments_and_segments_have_none(before: FlagSet, after: FlagSet) -> None:
    """The same holds for all that a flag set has."""
    pairs: list[tuple[Subject, Subject]] = [(before.environment, after.environment)]
    pairs += [(before.segments[key], after.segments[key]) for key in before.segments.keys() & after.segments.keys()]

    for one, other in pairs:
        assert (one == other and repr(one) == repr(other)) is (describe(one, other) == ())


@tried(150, long=20_000)
@given(flags, flags)
def test_lines_are_lines(before: FlagDefinition, after: FlagDefinition) -> None:
    """Printable, not empty, and every two differences of one flag have paths or texts of their own."""
    found = describe(before, after)

    assert all(each.text and each.text.isprintable() for each in found)
    assert len(found) == len({(each.path, each.text) for each in found})


@tried(150, long=20_000)
@given(st.sampled_from(("flag", "segment", "environment", "token")), documents, documents)
def test_any_document_is_understood(kind: str, before: Json, after: Json) -> None:
    """Also one that is damaged, or of a later version."""
    is_same = json.dumps(before) == json.dumps(after)

    assert is_same is (describe_documents(kind, before, after) == ())


@tried(150, long=20_000)
@given(st.permutations("abcdefg"), st.sets(st.sampled_from("abcdefg")), st.sets(st.sampled_from("hij")))
def test_no_more_rules_are_moved_than_need_be(order: list[str], gone: set[str], came: set[str]) -> None:
    """Those that are not said to have moved are in their old order."""
    before, after = list("abcdefg"), [name for name in order if name not in gone] + sorted(came)
    told = moved(before, after)
    stayed = [name for name in after if name in before and name not in told]

    assert sorted(stayed) == stayed
    assert len(stayed) == _longest([name for name in after if name in before])


def _longest(names: list[str]) -> int:
    """The length of the longest rise, the slow and obvious way."""
    best: list[int] = []
    for place, name in enumerate(names):
        best.append(1 + max((best[at] for at in range(place) if names[at] < name), default=0))
    return max(best, default=0)
