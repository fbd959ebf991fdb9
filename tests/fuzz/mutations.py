"""Change bytes at random, as a fuzzer does that knows nothing of coverage."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

LENGTH_MAX: Final = 4_096
CHANGES_MAX: Final = 6

TOKENS: Final = (
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 400,
        b"\\ud800",
        b"\xed\xa0\x80",
        b"\xff",
        b"\0",
        b'"',
        b"\\",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"[" * 64,
        b'{"!":' * 64,
        b"- " * 64,
        b"*a",
        b"&a ",
        b"<<: ",
        b"!!int ",
        b"\n",
    ),
    *(b'{"var": "x"}', b'"fractional"', b'"$ref"', b'"if"', b"v", b".", b"-", b"+", b"=", b"flagSetId=", b"source="),
    *(
        b"\x0a",
        b"\x12",
        b"\x1a",
        b"\x0b",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x11",
        b"\x20\x01",
        b"\x80" * 10,
        b"\x2a",
        b"\x32",
    ),
)


def mutants(corpus: Sequence[bytes], *, rng: random.Random) -> Iterator[bytes]:
    """Inputs without end, each made of one or two of the corpus by a few changes."""
    seeds = [*corpus, b""]
    while True:
        data = rng.choice(seeds)
        for _ in range(rng.randint(1, CHANGES_MAX)):
            data = rng.choice(_CHANGES)(data, seeds, rng)[:LENGTH_MAX]
        yield data


def _flip(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    if not data:
        return rng.randbytes(1)
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]


def _overwrite(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def _insert(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 16)) + data[at:]


def _insert_token(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + rng.choice(TOKENS) + data[rng.choice((start, end)) :]


def _delete(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + data[start:end] * rng.choice((2, 3, 30)) + data[end:]


def _cut(data: bytes, _seeds: Sequence[bytes], rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _splice(data: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(seeds)
    start, end = _range(other, rng)
    at = rng.randint(0, len(data))
    return data[:at] + other[start:end] + data[at:]


def _range(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 512)))


_CHANGES: Final[Sequence[Callable[[bytes, Sequence[bytes], random.Random], bytes]]] = (
    *(_flip, _overwrite, _insert, _insert_token, _insert_token, _delete, _repeat, _cut, _splice),
)
