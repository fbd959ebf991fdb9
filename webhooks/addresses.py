"""Decide which addresses may be sent to, where a socket is opened and where a URL is written.

The check that counts is the one at the socket: names may resolve to anything, and to something else a moment later. The
one at the URL is for people: it tells them early. Both refuse everything that is not a public unicast address, unless
the operator allowed it.

Source: IANA's registries of special-purpose addresses for IPv4 and IPv6, of 2026, narrower than
`ipaddress.is_global`, which lets NAT64, 6to4 and multicast through.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from webhooks import limits
from webhooks.errors import AddressRefused, InvalidSetting, Problem

IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address
Address = IPv4 | IPv6
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL: Final = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112 service"),
    ("192.52.193.0/24", "AMT relays"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112 service"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, or broadcast"),
    # Of IPv6 only 2000::/3 is given out; what stands here is special inside of it or has a name worth telling.
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("64:ff9b::/96", "NAT64, which leads to an IPv4 address"),
    ("64:ff9b:1::/48", "NAT64, which leads to an IPv4 address"),
    ("100::/64", "discard only"),
    ("100:0:0:1::/64", "discard only"),
    ("2001::/23", "protocol assignments, Teredo among them"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4, which leads to an IPv4 address"),
    ("2620:4f:8000::/48", "AS112 service"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple((ipaddress.ip_network(net), why) for net, why in _SPECIAL)
"""Networks that nothing is sent to, and what they are."""

METADATA: Final[frozenset[Address]] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, and most others.
        "169.254.170.2",  # AWS, for containers.
        "169.254.170.23",  # AWS, for pods.
        "100.100.100.200",  # Alibaba.
        "168.63.129.16",  # Azure's host, at an address that looks public.
        "192.0.0.192",  # Oracle.
        "fd00:ec2::254",  # AWS over IPv6.
        "fd00:ec2::23",  # AWS, for pods, over IPv6.
        "fd20:ce::254",  # Google over IPv6.
    )
)
"""Where machines of a cloud ask for their credentials: a network that an operator allows does not open them, nor does a
host's name; only the address itself does."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_MAPPED_PREFIXES = (
    ipaddress.IPv6Network("::ffff:0:0/96"),
    ipaddress.IPv6Network("::/96"),
    ipaddress.IPv6Network("::ffff:0:0:0/96"),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an operator allows beyond public addresses.

    Shapes: hosts are names in lower case without a last dot; one that starts with a dot stands for all names below it.
    """

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    def has_host(self, host: str) -> bool:
        """Whether this name, or one above it, was allowed."""
        name = host.rstrip(".").lower()
        parts = name.split(".")
        return name in self.hosts or any("." + ".".join(parts[cut:]) in self.hosts for cut in range(1, len(parts)))

    def has_address(self, address: Address) -> bool:
        """Whether a network around this address was allowed; a metadata address must be named by itself."""
        around = [net for net in self.networks if address.version == net.version and address in net]
        return any(net.num_addresses == 1 for net in around) if address in METADATA else bool(around)


def read_allowed(places: Iterable[str], path: str = "/allow") -> Allowed:
    """What an operator allows: addresses, networks (`10.0.0.0/8`) and hosts (`n8n.lan`, `.example.internal`).

    Errors: InvalidSetting with every place that is none of these, and for too many.
    """
    networks: list[Network] = []
    hosts: set[str] = set()
    problems: list[Problem] = []
    for number, place in enumerate(places):
        text = place.strip().lower()
        if (network := _network(text)) is not None:
            networks.append(network)
        elif is_host(text.removeprefix(".")):
            hosts.add(text.rstrip("."))
        else:
            problems.append(
                Problem(
                    f"{path}/{number}",
                    f"{place!r} is no address, no network whose bits beyond its length are 0, and no host's name",
                )
            )
    if len(networks) + len(hosts) > limits.ALLOWED_PLACES_MAX:
        problems.append(Problem(path, f"more than {limits.ALLOWED_PLACES_MAX} places are allowed"))
    if problems:
        raise InvalidSetting(problems)
    return Allowed(tuple(networks), frozenset(hosts))


def is_host(text: str) -> bool:
    """Whether this can be a name in the domain name system, as it is sent to it; underscores are in use."""
    labels = text.rstrip(".").split(".")
    return len(text) <= 253 and all(
        0 < len(label) <= 63
        and label.isascii()
        and label.replace("-", "").replace("_", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )


def refusal(address: Address, allowed: Allowed | None = None) -> str | None:
    """Why nothing may be sent to an address; None when it may.

    An IPv4 address inside an IPv6 one counts as what it leads to, and what leads to one through a gateway is refused.
    """
    plain = _unwrapped(address)
    if allowed is not None and allowed.has_address(plain):
        return None
    if plain in METADATA:
        return f"{address} is a metadata address of a cloud"
    for network, why in SPECIAL:
        if plain.version == network.version and plain in network:
            return f"{address} is not public: {why} ({network})"
    if isinstance(plain, IPv6) and plain not in _GLOBAL_UNICAST:
        return f"{address} is not public: outside {_GLOBAL_UNICAST}, which is all of IPv6 that is given out"
    return None


def check_address(text: str, allowed: Allowed | None = None) -> None:
    """Return when something may be sent to this address, as a resolver or a socket gives it.

    Errors: AddressRefused, also for what is no address at all.
    """
    try:
        # A zone (%eth0) names an interface of ours; the address before it says enough.
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise AddressRefused(f"{text[:64]!r} is no address that may be sent to") from None
    why = refusal(address, allowed)
    if why is not None:
        raise AddressRefused(f"{why}; the server's operator can allow it")


AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
"""What getaddrinfo gives, which is also what a socket factory is asked with."""


def socket_factory(allowed: Allowed | None = None) -> Callable[[AddressInfo], socket.socket]:
    """A `socket_factory` for aiohttp's TCPConnector that opens no socket to an address which may not be sent to.

    It is asked for each address at each connection, also for addresses that stand in a URL, so it cannot be passed by a
    name that resolves to something else the second time. A name with several addresses reaches those that may be.
    Errors: AddressRefused, which the client takes for a failed connection.
    """

    def open_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise AddressRefused("only IPv4 and IPv6 may be sent to")
        check_address(str(target[0]), allowed)
        return socket.socket(family=family, type=kind, proto=protocol)

    return open_socket


def host_socket_factory(allowed: Allowed | None = None) -> Callable[[AddressInfo], socket.socket]:
    """The same for a connector that serves only hosts whose names the operator allowed: all but metadata addresses."""
    everywhere = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    return socket_factory(Allowed((*everywhere, *(allowed.networks if allowed else ()))))


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that stands in the last bits of an IPv6 one without a gateway between."""
    if isinstance(address, IPv6) and int(address) > 1 and any(address in prefix for prefix in _MAPPED_PREFIXES):
        return IPv4(int(address) & 0xFFFF_FFFF)
    return address


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
