"""One number is read from what a provider answers, or what is wrong with it is told."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.core.guards.answers import read_json, read_prometheus, split_query
from server.core.guards.providers import ProviderKind, read_provider


def vector(*values: str) -> bytes:
    """An answer with one series for each value."""
    result = [{"metric": {"place": str(place)}, "value": [1, value]} for place, value in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (vector("0.25"), 0.25),
        (vector(), None),
        (vector("+Inf"), math.inf),
        (b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}', 3.0),
    ],
)
def test_prometheus_answers_a_number(body: bytes, expected: float | None) -> None:
    """Or nothing, which is no error."""
    assert expected == read_prometheus(body)


def test_prometheus_answers_nan() -> None:
    """What was divided by nothing: judged as no data."""
    assert math.isnan(read_prometheus(vector("NaN")) or 0.0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (vector("1", "2"), "the query gives 2 series, expected one: sum them up, or choose by labels"),
        (vector("x"), "the sample is x, expected a number"),
        (b'{"status": "error", "error": "parse error"}', "Prometheus says: parse error"),
        (
            b'{"status": "success", "data": {"resultType": "matrix", "result": []}}',
            "the query gives a matrix, expected",
        ),
        (b"<html>", "the answer is not JSON"),
        (b"[]", "the answer is not one of Prometheus"),
        (
            b'{"status": "success", "data": {"resultType": "vector", "result": [7]}}',
            "the answer is not one of Prometheus",
        ),
        (b"[" * 100_000, "the answer is not JSON"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(body: bytes, message: str) -> None:
    """In words that help."""
    with pytest.raises(InvalidRequest) as caught:
        read_prometheus(body)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/rate", 0.5),
        ("/list/1", 2.0),
        ("/a~1b/~0", 7.0),
        ("/text", 1.5),
        ("/none", None),
        ("/x/y", None),
        ("/list/9", None),
    ],
)
def test_a_pointer_finds_a_number(pointer: str, expected: float | None) -> None:
    """RFC 6901; where nothing is, there is no data."""
    body = b'{"rate": 0.5, "list": [1, 2], "a/b": {"~": 7}, "text": "1.5", "none": null}'

    assert expected == read_json(body, pointer)


@pytest.mark.parametrize("body", [b'{"x": true}', b'{"x": {}}', b'{"x": "a"}', b'{"x": 1' + b"0" * 400 + b"}"])
def test_what_is_no_number_is_told(body: bytes) -> None:
    """It is an error, and not no data."""
    with pytest.raises(InvalidRequest):
        read_json(body, "/x")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    ),
    st.text(),
)
def test_whatever_is_answered_is_read_or_refused(answer: Any, pointer: str) -> None:
    """Never another exception."""
    body = json.dumps(answer).encode()
    for read in (read_prometheus, lambda each: read_json(each, f"/{pointer}")):
        try:
            assert isinstance(read(body), float | None)
        except InvalidRequest:
            continue


@pytest.mark.parametrize(
    ("query", "expected"),
    [("/errors", ("", "/errors")), ("/health?x=1#/a/b", ("/health?x=1", "/a/b")), ("/health#", ("/health", ""))],
)
def test_a_query_has_a_path_and_a_pointer(query: str, expected: tuple[str, str]) -> None:
    """The path is optional."""
    assert expected == split_query(query)


@pytest.mark.parametrize(
    "query", ["errors", "//evil.example#/a", "x#/a", "/a/../../b#/c", "/a#b", "/\\evil#/a", "@evil#/a"]
)
def test_a_query_cannot_lead_elsewhere(query: str) -> None:
    """What stands behind the provider's address stays behind it."""
    with pytest.raises(InvalidRequest):
        split_query(query)


def test_a_provider_is_read() -> None:
    """Its token is shown nowhere."""
    provider = read_provider("prom=prometheus:https://prom.example.com/base", {"prom": "secret"})

    assert (ProviderKind.PROMETHEUS, "https://prom.example.com/base", "secret") == (
        *(provider.kind, provider.url, provider.token),
    )
    assert "secret" not in repr(provider)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prom", "a provider is written NAME=KIND:URL"),
        ("prom=graphite:https://x", "a provider is written NAME=KIND:URL"),
        ("prom=prometheus:x", "provider 'prom' needs an address such as"),
        ("prom=prometheus:https://x/?q=1", "provider 'prom' needs an address such as"),
        ("prom=prometheus:http://x", "provider 'prom' is asked unencrypted; use https://"),
        ("prom=prometheus:https://me:secret@x", "the address of provider 'prom' holds credentials"),
    ],
)
def test_a_provider_that_is_none_is_refused(text: str, message: str) -> None:
    """Without a word of what may be secret."""
    with pytest.raises(InvalidRequest) as caught:
        read_provider(text, {})

    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_http_may_be_allowed() -> None:
    """And is here, on this machine."""
    assert "http://x" == read_provider("a=json:http://x", {}, allow_http=True).url
    assert "http://127.0.0.1:9090" == read_provider("a=json:http://127.0.0.1:9090", {}).url
