"""Keep an endpoint's rate by a bucket of tokens, as a value that stands in the endpoint's row.

Time is an argument: seconds of any clock that all who share the row read alike, such as the database's.
"""

from dataclasses import dataclass, replace
from typing import Final

from webhooks.errors import InvalidSetting

RATE_MAX: Final = 10_000.0
ZAPIER_RATE: Final = 25.0
"""A default for hooks.zapier.com, which answers 429 above 30 a second."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many sendings a second, and so many at once after a rest: in any t seconds at most burst + t * per_s."""

    per_s: float
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left, and when that was counted."""

    tokens: float
    counted_at_s: float


def read_rate(per_s: float, burst: int = 1, path: str = "/rate") -> Rate:
    """An endpoint's rate.

    Errors: InvalidSetting for a rate that is not above 0 or too high, and for a burst below 1.
    """
    if not 0 < per_s <= RATE_MAX:
        raise InvalidSetting.at(path, f"expected more than 0 and at most {RATE_MAX:g} a second")
    if not 1 <= burst <= RATE_MAX:
        raise InvalidSetting.at(f"{path}/burst", f"expected 1 to {RATE_MAX:g} at once")
    return Rate(per_s, burst)


def full(rate: Rate, now_s: float) -> Bucket:
    """The bucket of an endpoint that has rested."""
    return Bucket(float(rate.burst), now_s)


def take(bucket: Bucket, rate: Rate, *, now_s: float, wanted: int = 1) -> tuple[Bucket, int]:
    """The bucket after up to `wanted` tokens were taken, and how many were: 0 when none is whole."""
    filled = _filled(bucket, rate, now_s)
    taken = min(max(wanted, 0), int(filled.tokens))
    return replace(filled, tokens=filled.tokens - taken), taken


def reserve(
    bucket: Bucket, rate: Rate, *, now_s: float, wanted: int, ahead_s: float
) -> tuple[Bucket, tuple[float, ...]]:
    """The bucket after up to `wanted` tokens were taken, those too that fill within `ahead_s`.

    Shapes: the seconds to wait for each token, rising. Who reserves and then waits keeps the rate without asking for
    each token; what is reserved is an instant to come in the bucket, before which it fills no more.
    """
    filled = _filled(bucket, rate, now_s)
    there = min(max(wanted, 0), int(filled.tokens))
    left = filled.tokens - there
    until_s = filled.counted_at_s - now_s
    coming = int(max(0.0, ahead_s - until_s) * rate.per_s + left)
    waits = [until_s + (number - left) / rate.per_s for number in range(1, min(wanted - there, coming) + 1)]
    if not waits:
        return replace(filled, tokens=left), (0.0,) * there
    return Bucket(0.0, now_s + waits[-1]), (*(0.0,) * there, *waits)


def wait_s(bucket: Bucket, rate: Rate, now_s: float) -> float:
    """Seconds until the next token is whole; 0 when one is."""
    return max(0.0, (1 - _filled(bucket, rate, now_s).tokens) / rate.per_s)


def _filled(bucket: Bucket, rate: Rate, now_s: float) -> Bucket:
    # A clock that went back gives nothing, and the instant stays: else its way forward would be counted twice.
    passed = max(0.0, now_s - bucket.counted_at_s)
    tokens = min(float(rate.burst), max(0.0, bucket.tokens) + passed * rate.per_s)
    return Bucket(tokens, max(now_s, bucket.counted_at_s))
