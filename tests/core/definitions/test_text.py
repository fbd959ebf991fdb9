"""Texts that are read, and texts that are refused with a reason."""

from collections.abc import Callable

import pytest

from server.core.definitions.text import parse_text
from server.core.errors import InvalidDefinition
from server.core.json import Json


def refusal(text: str | bytes, *, name: str = "") -> str:
    """The message with which a text is refused."""
    with pytest.raises(InvalidDefinition) as refused:
        parse_text(text, name=name)
    return str(refused.value)


YAML = """
flags:
  on-off: &base
    state: ENABLED
    variants: {on: true, off: no, 1: 0x1F, date: 2026-01-31, e: 1e3, f: 1., nothing: ~, text: "true", 2.5: .5}
    when: !!str 12
  copy:
    <<: *base
    state: DISABLED
"""


def test_yaml_has_the_values_of_json() -> None:
    """`on`, `no` and a date are texts, a key is a text as written, a merged key gives way to the mapping's own."""
    variants = {"on": True, "off": "no", "1": 31, "date": "2026-01-31", "e": 1000.0, "f": 1.0}
    variants |= {"nothing": None, "text": "true", "2.5": 0.5}
    base = {"state": "ENABLED", "variants": variants, "when": "12"}

    assert parse_text(YAML) == {"flags": {"on-off": base, "copy": {**base, "state": "DISABLED"}}}
    assert parse_text(YAML.encode(), name="flags.YML") == parse_text(YAML)


def test_json_is_read_with_a_byte_order_mark() -> None:
    """What Windows editors put before the text is not part of it."""
    assert parse_text(b'\xef\xbb\xbf{"a": [1, 1.0, "\\ud83d\\ude00"]}') == {"a": [1, 1.0, "\U0001f600"]}


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ('{"a": {"x/y": 1, "b": 2, "x/y": 3}}', "", "/a/x~1y: this key stands twice in its object; keep one"),
        ("a:\n  b: 1\n  b: 2\n", "", "/a/b: line 3: this key stands twice in its mapping; keep one"),
        ('{"a": NaN}', "", "/: NaN is not a number in JSON"),
        ('{"a": -Infinity}', "", "/: -Infinity is not a number in JSON"),
        ('{"a": 1e999}', "", "/: a number is too large for a 64-bit float"),
        ('{"a": 1' + "0" * 5000 + "}", "", "/: a number has too many digits"),
        ("a: .nan", "", "/a: line 1: .nan is not a number in JSON"),
        ("a: [1, 1e999]", "", "/a/1: line 1: a number is too large for a 64-bit float"),
        (b'{"a": "\xff"}', "", "/: byte 7 is not UTF-8 text; save the document as UTF-8"),
        (r'{"a": ["\ud800"]}', "", "/a/0: '?' has half of a surrogate pair, which is not a character"),
        ('{"a" 1}', "x.json", "/: line 1 column 6: Expecting ':' delimiter; this is not JSON"),
        ('{"a" 1}', "", "/: line 1 column 6: Expecting ':' delimiter; this is not JSON"),
        ("? [a]\n: 1", "", "/: line 1: a key is a mapping or a list; keys are texts"),
        ("a: !!binary aGk=", "", "/a: line 1: 'aGk=' with the tag 'tag:yaml.org,2002:binary' has no JSON form"),
        (
            "a: !!python/object:os.system []",
            "",
            "/a: line 1: the tag 'tag:yaml.org,2002:python/object:os.system' has no",
        ),
        ("a: 1\n---\nb: 2\n", "", "/: line 2: a second document begins here; put each document into a file of its own"),
        ("a: &x [*x]", "", "/a/0: line 1: the alias *x stands for nothing complete"),
        ("a: [", "", "/: line "),
        ("[" * 100_000, "", "/: objects and lists are nested too deeply"),
        ('{"a":' * 100_000, "", "/: objects and lists are nested too deeply"),
        ("[" * 100_000, "x.yaml", "nested more than 200 deep"),
        ("- " * 100_000, "x.yaml", "nested more than 200 deep"),
    ],
)
def test_what_is_not_a_document_is_refused(text: str | bytes, name: str, message: str) -> None:
    """Neither a broken nor a hostile text is half read; the message says where and why."""
    assert message in refusal(text, name=name)


def test_aliases_cannot_explode() -> None:
    """Nine lists of ten aliases each would stand for a thousand million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    assert "aliases stand for more than 100000 values; write them out" in refusal("\n".join(lines))


def test_a_document_has_a_bound() -> None:
    """64 MiB, in bytes and not in characters."""
    assert "the document has 67108866 bytes, at most 67108864 are allowed" in refusal("é" * (32 * 1024 * 1024 + 1))


@pytest.mark.parametrize("write", [str, str.encode])
def test_a_key_that_json_repeats_is_not_taken_for_yaml(write: Callable[[str], Json]) -> None:
    """YAML's reader would also refuse it, but by line; JSON's reader names the object."""
    assert refusal(write('{"a": 1, "a": 1}')) == "/a: this key stands twice in its object; keep one"


def test_a_quoted_merge_key_is_a_key() -> None:
    """Only the bare `<<` merges."""
    assert parse_text('a: {"<<": {b: 1}, c: 2}') == {"a": {"<<": {"b": 1}, "c": 2}}
