"""Packed lists of keys: exact, and the same however they came about."""

import hashlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest, TooLarge
from server.core.keylists import CHUNKS, EMPTY, Gathering, KeyList, difference, key_list, list_of, pack, place_of, union

keys = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable())
sets = st.frozensets(keys, max_size=40)
of_one_chunk = st.frozensets(st.text("abé", min_size=1, max_size=4), max_size=20)


@given(sets, sets)
def test_a_list_is_a_set(one: frozenset[str], other: frozenset[str]) -> None:
    """Membership, union and difference are those of Python's sets, and the digest belongs to what is in it."""
    packed, more = key_list(sorted(one)), key_list(sorted(other, reverse=True))

    assert one == set(packed) and len(one) == packed.count
    assert [key in one for key in one | other] == [key in packed for key in one | other]
    assert key_list(one | other) == union(packed, more) == union(more, packed)
    assert key_list(one - other) == difference(packed, more)
    assert (one == other) is (packed == more) is (packed.digest == more.digest)


@given(sets, sets)
def test_what_is_there_already_changes_nothing(one: frozenset[str], other: frozenset[str]) -> None:
    """Adding and removing may be repeated; chunks that stay the same are the same."""
    packed = union(key_list(one), key_list(other))
    again = union(packed, key_list(other))

    assert packed == again and packed.chunks == again.chunks
    assert difference(difference(packed, key_list(other)), key_list(other)) == difference(packed, key_list(other))


@given(of_one_chunk, of_one_chunk)
def test_a_changed_chunk_is_the_one_packed_anew(one: frozenset[str], other: frozenset[str]) -> None:
    """Keys are put in and taken out where they stand; to the byte, that is what packing all of them gives."""
    stored, more = _in_one_chunk(one), _in_one_chunk(other)

    assert _in_one_chunk(one | other).chunks == union(stored, more).chunks
    assert _in_one_chunk(one - other).chunks == difference(stored, more).chunks


def test_keys_of_one_chunk_are_told_apart() -> None:
    """Neither a part of a key nor two of them together are a key, also where hashes fall together."""
    place = place_of(b"user-0")
    same = [f"user-{number}" for number in range(200_000) if place_of(f"user-{number}".encode()) == place][:20]
    packed = list_of({place: pack(key.encode() for key in same[::2])})

    assert [True, False] * 10 == [key in packed for key in same]
    assert not any(key in packed for key in ("", "user-", "ser-0", "\xff", f"{same[0]}\udcff{same[2]}", "\ud800"))


def test_only_a_text_is_a_key() -> None:
    """As in every list of texts: 1 is not "1"."""
    packed = key_list(["1", "true"])

    assert [False] * 4 == [value in packed for value in (1, True, None, ["1"])]


def test_the_digest_is_written_down() -> None:
    """Lists are stored in this form, so it never changes: SHA-256 over the digests of 4,096 chunks in order."""
    chunks = [hashlib.sha256(b"").digest()] * CHUNKS
    chunks[place_of(b"alice")] = hashlib.sha256(b"\xffalice\xff").digest()

    assert 4_096 == CHUNKS and 3_805 == place_of(b"alice")
    assert hashlib.sha256(b"".join(chunks)).hexdigest() == key_list(["alice"]).digest
    assert (0, b"") == (EMPTY.count, EMPTY.packed)


@pytest.mark.parametrize("key", ["", "k" * 8193, "\ud800"])
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    """A context could never ask for it."""
    with pytest.raises(InvalidRequest, match="a key"):
        key_list([key])


def test_a_list_is_bounded() -> None:
    """By the number of its keys and by their bytes."""
    for bounds in ({"keys_max": 2}, {"bytes_max": 8}):
        gathering = Gathering(**bounds)
        gathering.add(["one", "two"])
        with pytest.raises(TooLarge, match="send them in several calls"):
            gathering.add(["three"])


def test_a_list_without_its_keys_answers_nothing() -> None:
    """It is known by number and digest; what it contains is never guessed."""
    head = KeyList(1, key_list(["alice"]).digest)

    assert head == key_list(["alice"])
    with pytest.raises(LookupError):
        assert "alice" in head
    with pytest.raises(LookupError):
        union(head, key_list(["bob"]))


def _in_one_chunk(texts: Iterable[str]) -> KeyList:
    return list_of({0: pack(text.encode() for text in texts)})
