"""What a body may hold: each bound, one less and one more; and whatever else, never a 5xx."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import FlagstaffError, InvalidRequest, TooLarge
from server.core.limits import (
    CONTEXT_ATTRIBUTES_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXT_DEPTH_MAX,
    CONTEXT_KEY_BYTES_MAX,
    CONTEXT_VALUE_BYTES_MAX,
)
from server.web.context import read_context
from server.web.requests import BODY_BYTES_MAX
from tests.web.asking import BULK, SINGLE, app_of, client_of, post

JSON_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
HEADERS: Final = st.dictionaries(
    st.sampled_from(["flagd-selector", "if-none-match"]), st.text(st.characters(min_codepoint=32, max_codepoint=126))
)
HARMLESS: Final = {200, 400, 404, 413, 415}


def body_of(context: Any) -> bytes:
    """A body with this context."""
    return json.dumps({"context": context}).encode()


def nested(depth: int) -> Any:
    """Lists in one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


BOUNDS: Final[dict[str, tuple[Any, Any]]] = {
    "attributes": (
        {f"a{number}": 1 for number in range(CONTEXT_ATTRIBUTES_MAX)},
        {f"a{number}": 1 for number in range(CONTEXT_ATTRIBUTES_MAX + 1)},
    ),
    "name": ({"k" * CONTEXT_KEY_BYTES_MAX: 1}, {"k" * (CONTEXT_KEY_BYTES_MAX + 1): 1}),
    "name in UTF-8": ({"ü" * (CONTEXT_KEY_BYTES_MAX // 2): 1}, {"ü" * (CONTEXT_KEY_BYTES_MAX // 2) + "k": 1}),
    "value": ({"k": "v" * CONTEXT_VALUE_BYTES_MAX}, {"k": "v" * (CONTEXT_VALUE_BYTES_MAX + 1)}),
    "depth": ({"k": nested(CONTEXT_DEPTH_MAX)}, {"k": nested(CONTEXT_DEPTH_MAX + 1)}),
    "context": (
        {f"{number:08}": "v" * (CONTEXT_VALUE_BYTES_MAX - 8) for number in range(8)},
        {**{f"{number:08}": "v" * (CONTEXT_VALUE_BYTES_MAX - 8) for number in range(8)}, "": None},
    ),
}
"""The largest context that is taken, and the smallest that is not."""


def test_the_context_of_the_bounds_is_at_its_bound() -> None:
    """Eight attributes of 8 KiB are the 64 KiB that a context may have."""
    assert CONTEXT_BYTES_MAX == sum(len(name) + len(value) for name, value in BOUNDS["context"][0].items())


@pytest.mark.parametrize("bound", BOUNDS)
def test_at_a_bound(bound: str) -> None:
    """What just fits is taken."""
    fitting, _ = BOUNDS[bound]

    assert fitting == read_context(body_of(fitting))


@pytest.mark.parametrize("bound", BOUNDS)
async def test_beyond_a_bound(bound: str) -> None:
    """What is one more is refused, with a figure."""
    _, beyond = BOUNDS[bound]

    response = await post(SINGLE + "boolean", body_of(beyond))

    assert (400, "INVALID_CONTEXT") == (response.status_code, response.json()["errorCode"])
    assert any(character.isdigit() for character in response.json()["errorDetails"])


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"[]", b"null", b"1", b'"text"', b'{"context": []}', b'{"context": "x"}', b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"context": {"a": NaN}}', b'{"context": {"a": -Infinity}}', b'{"context": {"a": 1e999}}',
        b'{"context": {"a": [1e999]}}', b'{"context": {"a": "\\ud800"}}', b'{"context": {"\\udc00": 1}}',
        b'{"context": {"a": {"\\ud800": 1}}}', b'{"context": {"a": 1}', b"{'context': {}}", b'{"context": {}} {}',
        b"\x00", '{"context": {}}'.encode("utf-16"), b"[" * 100_000, b'{"context":' * 50_000,
        b'{"context": {"a": ' + b"9" * 5_000 + b"}}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [BULK, SINGLE + "boolean"])
async def test_no_context(path: str, body: bytes) -> None:
    """A body without a readable context is the caller's mistake, named as such."""
    response = await post(path, body)

    assert (400, "INVALID_CONTEXT") == (response.status_code, response.json()["errorCode"])


def test_whole_numbers_are_floats() -> None:
    """A context's numbers are of one kind, as in every other protocol."""
    context = read_context(b'{"context": {"a": 1, "b": [2, {"c": -0}]}}')

    assert "{'a': 1.0, 'b': [2.0, {'c': -0.0}]}" == repr(context)


def test_pairs_of_surrogates_are_characters() -> None:
    """An escaped pair is one character; only half of one is none."""
    assert {"a": "😀"} == read_context(b'{"context": {"a": "\\ud83d\\ude00"}}')


@pytest.mark.parametrize(("size", "status"), [(BODY_BYTES_MAX, 200), (BODY_BYTES_MAX + 1, 413)])
@pytest.mark.parametrize("length_is_told", [True, False])
async def test_size_of_the_body(size: int, status: int, length_is_told: bool) -> None:
    """1 MiB is read, one byte more is not, whether the length was told or shows while reading."""
    padded = b"{}" + b" " * (size - 2)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield padded[start : start + 100_000]

    async with client_of(app_of()) as client:
        content = padded if length_is_told else parts()
        response = await client.post(SINGLE + "boolean", content=content, headers={"content-type": "application/json"})

    assert status == response.status_code
    assert ("close" if status == 413 else None) == response.headers.get("connection")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON;charset=UTF-8", 200),
        ("application/vnd.api+json", 200),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/json", 415),
        ("", 415),
    ],
)
async def test_content_type(content_type: str, status: int) -> None:
    """A body that says it is something else than JSON is not guessed at."""
    response = await post(SINGLE + "boolean", headers={"content-type": content_type})

    assert status == response.status_code


async def test_no_content_type_is_json() -> None:
    """A body that does not say what it is is taken for JSON."""
    async with client_of(app_of()) as client:
        response = await client.post(SINGLE + "boolean", content=b"{}")

    assert 200 == response.status_code


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_bytes_are_a_context_or_refused(body: bytes) -> None:
    """Whatever the bytes, reading them gives a context or one of our errors."""
    try:
        assert isinstance(read_context(body), dict)
    except FlagstaffError as error:
        assert isinstance(error, InvalidRequest | TooLarge)


@given(JSON_VALUES, st.text(max_size=20), HEADERS)
def test_anything_is_answered_without_a_server_error(body: Any, key: str, headers: dict[str, str]) -> None:
    """Any JSON, any key, any header: never a 5xx, and always JSON."""

    async def ask() -> list[httpx.Response]:
        async with client_of(app_of()) as client:
            paths = [SINGLE + quote(key), BULK]
            bodies = ({"context": body}, body)
            return [await client.post(path, json=each, headers=headers) for path in paths for each in bodies]

    for response in asyncio.run(ask()):
        assert response.status_code in HARMLESS
        assert isinstance(response.json(), dict)
