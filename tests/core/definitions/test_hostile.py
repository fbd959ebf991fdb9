"""Whatever is read is accepted or refused with problems: no input raises anything else."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.core.definitions.documents import Read, read_document, write_document
from server.core.definitions.flagd import is_flagd, read_flagd, write_flagd
from server.core.definitions.text import parse_text
from server.core.errors import InvalidDefinition
from server.core.flagsets import FlagSet
from server.core.json import Json
from tests.strategies import flag_sets

WORDS = st.sampled_from(
    ("flags", "variants", "$evaluators", "targeting", "if", "fractional", "$ref", "on", "rules", "")
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=20,
)


def read(data: Json, *, lenient: bool) -> FlagSet | None:
    """The flag set, None when it was refused with at least one problem."""
    reader: Callable[..., Read] = read_flagd if is_flagd(data) else read_document
    try:
        return reader(data, project="shop", environment="production", lenient=lenient).flag_set
    except InvalidDefinition as error:
        assert error.problems and not any(problem.warning for problem in error.problems)
        return None


def places(data: Json) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from places(data[key])


@given(ANYTHING, st.booleans())
def test_any_json_is_read_or_refused(data: Json, lenient: bool) -> None:
    """Also values that JSON text cannot hold, such as NaN."""
    read(data, lenient=lenient)
    read({"flags": {"a": data}}, lenient=lenient)
    read({"flags": {"a": {"state": "ENABLED", "variants": {"on": 1}, "targeting": data}}}, lenient=lenient)
    read({"flags": {"a": {"variants": {"on": 1}, "rules": [{"serve": "on", "condition": data}]}}}, lenient=lenient)
    read({"flags": {}, "segments": {"a": data, "b": {"condition": data}}}, lenient=lenient)


@given(flag_sets(), st.booleans(), st.data())
def test_a_mutant_is_read_or_refused(flag_set: FlagSet, lenient: bool, data: st.DataObject) -> None:
    """And what is accepted of it keeps the law: written, it is read back."""
    write = data.draw(st.sampled_from((write_document, write_flagd)))
    document = json.loads(json.dumps(write(flag_set)))
    container, key = data.draw(st.sampled_from(list(places(document))))
    container[key] = data.draw(ANYTHING)
    accepted = read(document, lenient=lenient)

    if accepted is not None:
        assert read(write_document(accepted), lenient=False) == accepted


@given(st.one_of(st.binary(), st.text(alphabet="{}[]:,-\"'&*!#|>?%@`\n ab01.~<", max_size=40)))
def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    """Neither parser lets an exception of its own out."""
    with contextlib.suppress(InvalidDefinition):
        json.dumps(parse_text(text), allow_nan=False)
