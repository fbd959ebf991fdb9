"""Check an endpoint's URL where it is written, and say early what the socket would refuse late.

It is read by yarl, which is what aiohttp reads it with: two parsers that disagree are how such checks are passed.
"""

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from webhooks import limits
from webhooks.addresses import Address, Allowed, is_host, refusal
from webhooks.errors import InvalidSetting

PORT_MIN: Final = 1024
"""Below it stand mail, files and remote control; a receiver has no reason to be there."""

WEB_PORTS: Final = frozenset({80, 443})

LOCAL_SUFFIXES: Final = (
    ".localhost",
    ".local",
    ".internal",
    ".intranet",
    ".lan",
    ".home",
    ".home.arpa",
    ".corp",
    ".private",
    ".localdomain",
)
"""Names that only resolve inside somebody's network, if at all."""

_REACHES = "; the server's operator can allow it"


@dataclass(frozen=True, slots=True)
class UrlRules:
    """What the operator has decided about URLs of endpoints."""

    allowed: Allowed = field(default_factory=Allowed)
    http: bool = False
    """Whether plain http may be used; for hosts that are allowed by name it always may."""

    ports: frozenset[int] = frozenset()
    """Ports below PORT_MIN that may be used besides those of the web."""


def check_url(text: str, rules: UrlRules, path: str = "/url") -> str:
    """The URL as it will be asked for.

    Errors: InvalidSetting, which says which rule it breaks and names its host at most: path and query may be secret.
    """
    if not text or len(text) > limits.URL_CHARS_MAX:
        raise InvalidSetting.at(path, f"a URL has 1 to {limits.URL_CHARS_MAX} characters, not {len(text)}")
    if any(char <= " " or char in "\\\x7f" for char in text):
        raise InvalidSetting.at(path, "a URL has no spaces, control characters or backslashes; write %20 for a space")
    url, port = _read(text, path)
    host = url.raw_host
    if url.scheme not in ("http", "https") or not host:
        raise InvalidSetting.at(path, "expected a URL such as https://example.com/hook")
    if url.user is not None or url.password is not None or "@" in text.partition("//")[2].partition("/")[0]:
        raise InvalidSetting.at(path, "a URL has no user and password; send them as a header of the endpoint")
    if url.raw_fragment or text.endswith("#"):
        raise InvalidSetting.at(path, "a URL of an endpoint has no fragment (#...): it would not be sent")
    by_name = rules.allowed.has_host(host)
    if url.scheme == "http" and not (rules.http or by_name):
        raise InvalidSetting.at(path, "expected https: over http everybody on the way can read it" + _REACHES)
    if not (port in WEB_PORTS or port in rules.ports or port >= PORT_MIN):
        raise InvalidSetting.at(path, f"port {port} is not 80, 443 or {PORT_MIN} and above{_REACHES}")
    if not by_name:
        _check_host(host, rules.allowed, path)
    return str(url)


def literal_address(host: str) -> Address | None:
    """The address that a URL's host is, in any of the forms that resolvers take: 127.0.0.1, 0x7f.1, 2130706433, ::1."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    if not _ends_in_number(host):
        return None
    try:
        # Reads what the C library's resolver reads, without asking anybody.
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None


def _read(text: str, path: str) -> tuple[URL, int]:
    try:
        url = URL(text)
        port = url.port
    except (ValueError, TypeError):
        # Without the cause, whose message may hold the whole URL.
        raise InvalidSetting.at(path, "not a URL such as https://example.com/hook") from None
    if port is None or not 0 < port < 65_536:
        raise InvalidSetting.at(path, "expected a URL such as https://example.com/hook, with a port from 1 to 65535")
    return url, port


def _check_host(host: str, allowed: Allowed, path: str) -> None:
    name = host.rstrip(".").lower()
    address = literal_address(name)
    if address is not None:
        why = refusal(address, allowed)
        if why is not None:
            raise InvalidSetting.at(path, why + _REACHES)
    elif _ends_in_number(name) or not is_host(name):
        raise InvalidSetting.at(path, f"host {host[:64]!r} is neither an address nor a name")
    elif "." not in name or name.endswith(LOCAL_SUFFIXES):
        raise InvalidSetting.at(path, f"host {host[:64]!r} is a name inside somebody's network{_REACHES}")


def _ends_in_number(host: str) -> bool:
    """Whether a host must be an address, by the rule of the URL standard."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdigit() or (last.startswith("0x") and all(char in "0123456789abcdef" for char in last[2:]))
