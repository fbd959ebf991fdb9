"""Decide whether one more request is too many: a bucket of tokens that fills at a steady rate.

A bucket is kept as one instant, the one at which it would be full again, so that it costs a number and nothing has to
fill it meanwhile. Source: the generic cell rate algorithm, ITU-T I.371.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import unquote

from server.core.errors import InvalidRequest

Network: TypeAlias = IPv4Network | IPv6Network

UNKNOWN: Final = "unknown"
"""Stands for an address that cannot be told, such as that of a socket file."""

FORWARDED_MAX: Final = 32
"""Addresses of a chain of proxies that are looked at."""

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?::(\d+))?")
_SITE_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests are allowed."""

    per_s: float
    burst: int
    """How many at once, after a while without any; at least 1."""


def read_rate(text: str) -> Rate:
    """RATE or RATE:BURST, in requests a second; without one the burst is what comes in two seconds.

    Errors: InvalidRequest.
    """
    found = _RATE.fullmatch(text)
    if found is None or not 0 < float(found[1]) <= 1e9 or (found[2] is not None and not 1 <= int(found[2]) <= 10**9):
        raise InvalidRequest(f"{text!r} is no rate; write 100 or 100:500, requests a second and how many at once")
    per_s = float(found[1])
    return Rate(per_s, max(1, round(2 * per_s)) if found[2] is None else int(found[2]))


def take(full_at: float, rate: Rate, now: float) -> tuple[float, float]:
    """Take one request out of a bucket: when it is full again, and how long to wait where it is empty (else 0).

    Units: instants and the wait in seconds. A request that has to wait takes nothing.
    """
    full_at = max(full_at, now)
    wait_s = full_at - now - (rate.burst - 1) / rate.per_s
    # What comes exactly in time is not too early by what floats cannot say.
    return (full_at, wait_s) if wait_s > 1e-9 else (full_at + 1 / rate.per_s, 0.0)


def read_network(text: str) -> Network:
    """An address or a range of them, such as 10.0.0.0/8. Errors: InvalidRequest."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no address and no range of addresses; write 10.0.0.0/8 or ::1") from None


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Whose request it is: the peer or, where proxies in between are trusted, whom the nearest one names.

    `forwarded` has the headers x-forwarded-for in their order; each proxy adds at the end whom it heard. So it is read
    from the end for as long as the address before is trusted: what a client wrote itself is never believed.
    An IPv6 address counts with its whole site (/64), which its owner can roam.
    Shapes: peer is an address, or a gRPC peer such as ipv4:1.2.3.4:567.
    """
    address = _peer_address(peer)
    if address is None:
        return UNKNOWN
    chain = ",".join(forwarded).split(",")[-FORWARDED_MAX:] if forwarded and trusted else []
    while chain and any(address in network for network in trusted):
        before = _address(chain.pop())
        if before is None:
            break
        address = before
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> _SITE_BITS << _SITE_BITS, _SITE_BITS)))
    return str(address)


@lru_cache(10_000)
def _peer_address(peer: str) -> IPv4Address | IPv6Address | None:
    scheme, colon, rest = peer.partition(":")
    if not colon or scheme not in ("ipv4", "ipv6"):
        return _address(peer)
    return _address(unquote(rest).rpartition(":")[0])


def _address(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip().removeprefix("[").partition("]")[0].partition("%")[0]
    # Some proxies write the port behind an address of version 4.
    text = text.partition(":")[0] if text.count(":") == 1 else text
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
