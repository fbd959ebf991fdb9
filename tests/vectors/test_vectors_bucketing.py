"""Hold hashes, buckets and CBOR to the published answers, ours and the reference's."""

from typing import Any

import cbor2
import mmh3

from server.core.evaluation.bucketing import bucket, canonical_cbor, hash32, share_bucket, unit_text
from tests.oracle.canonical import canonical_cbor as reference_cbor
from tests.oracle.javascript import to_javascript
from tests.reference import evaluate_rule
from tests.vectors.tables import cases


@cases("murmur3.json")
def test_murmur3(row: list[Any]) -> None:
    """The hash function is MurmurHash3 x86-32; ours takes seed 0."""
    text, seed, expected = row

    assert expected == mmh3.hash(text, seed, signed=False)
    if seed == 0:
        assert expected == hash32(text.encode())


@cases("buckets.json", "v2")
def test_bucket_v2(row: list[Any]) -> None:
    """v2 hashes the text."""
    text, expected_hash, expected_bucket = row

    assert expected_hash == hash32(text.encode())
    assert expected_bucket == bucket(expected_hash, 100)


@cases("buckets.json", "v3")
def test_bucket_v3(row: list[Any]) -> None:
    """v3 hashes the canonical CBOR of any value."""
    value, expected_cbor, expected_hash, expected_bucket = row

    assert expected_cbor == canonical_cbor(value).hex() == reference_cbor(to_javascript(value)).hex()
    assert expected_hash == hash32(bytes.fromhex(expected_cbor))
    assert expected_bucket == bucket(expected_hash, 100)


@cases("cbor.json")
def test_canonical_cbor(row: list[Any]) -> None:
    """Shortest form, keys by their bytes, whole numbers as integers; another encoder reads it back."""
    value, expected = row

    assert expected == canonical_cbor(value).hex() == reference_cbor(to_javascript(value)).hex()
    assert value == cbor2.loads(canonical_cbor(value))


@cases("buckets.json", "testbed")
def test_reference_buckets_as_the_testbed(row: list[Any]) -> None:
    """The reference interpreter puts the testbed's players where its tables do."""
    name, *expected = row
    suits: list[Any] = [[suit, 25] for suit in ("clubs", "diamonds", "hearts", "spades")]
    rule = {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "user.name"}]}, *suits]}
    answers = [
        evaluate_rule(rule, {"user": {"name": name}}, flag_key="fractional-flag", now=0, bucketing=bucketing)
        for bucketing in ("v2", "v3")
    ]

    assert expected == answers


def test_unit_text_of_numbers() -> None:
    """An integer, a float without fraction and a text of the same digits are one unit."""
    assert ["33333"] * 3 == [unit_text(33333), unit_text(33333.0), unit_text("33333")]


def test_unit_text_of_nothing() -> None:
    """Without a key there is no unit, and no bucket 0."""
    assert [None, None] == [unit_text(None), unit_text("")]
    assert [None, None] == [share_bucket("salt", None), share_bucket("salt", "")]


def test_share_bucket() -> None:
    """A share's place is the hash of `salt:unit`, in 100,000 parts."""
    assert (mmh3.hash("salt:user-1", 0, signed=False) * 100_000) >> 32 == share_bucket("salt", "user-1")
