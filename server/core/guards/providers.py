"""Say who can be asked what something comes to, as an operator writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from server.core.errors import InvalidRequest


class ProviderKind(StrEnum):
    """How a provider is asked."""

    PROMETHEUS = "prometheus"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Provider:
    """Who can be asked, as the operator says."""

    name: str
    kind: ProviderKind
    url: str
    """Without credentials; queries are asked below it."""

    token: str = field(default="", repr=False)
    """Sent as a bearer token; "" for none."""


def read_provider(text: str, tokens: Mapping[str, str], *, allow_http: bool = False) -> Provider:
    """A provider from `NAME=KIND:URL`, with its token by its name. Errors: InvalidRequest."""
    name, _, rest = text.partition("=")
    kind, _, url = rest.partition(":")
    kinds = ", ".join(ProviderKind)
    if not name or kind not in set(ProviderKind):
        raise InvalidRequest(f"a provider is written NAME=KIND:URL, with a kind of {kinds}; {name!r} is not")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        # The text is not repeated: there is a secret in it.
        raise InvalidRequest(f"the address of provider {name!r} holds credentials; give a token by a file instead")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidRequest(f"provider {name!r} needs an address such as https://prometheus.example.com")
    is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "http" and not (is_here or allow_http):
        raise InvalidRequest(
            f"provider {name!r} is asked unencrypted; use https://, or allow it with --provider-allow-http"
        )
    return Provider(name, ProviderKind(kind), url, tokens.get(name, ""))
