"""Read whom guards may ask, as `flagstaff serve` is told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.cli.channel import read_token
from server.cli.files import read_file
from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    from server.core.guards.providers import Provider


def read_providers(given: Sequence[str], *, token_files: Sequence[str], allow_http: bool) -> "tuple[Provider, ...]":
    """Providers from NAME=KIND:URL, with tokens from NAME=PATH. Errors: InvalidRequest."""
    from server.core.guards.providers import read_provider

    tokens: dict[str, str] = {}
    for each in token_files:
        name, found, path = each.partition("=")
        if not found or not name or not path:
            raise InvalidRequest("a provider's token file is written NAME=PATH")
        tokens[name] = read_token(read_file(path).decode("utf-8", "replace"))
    providers = tuple(read_provider(each, tokens, allow_http=allow_http) for each in given)
    names = [each.name for each in providers]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"two providers have the same name, of: {', '.join(sorted(names))}")
    unknown = sorted(tokens.keys() - set(names))
    if unknown:
        raise InvalidRequest(f"a token is given for {', '.join(unknown)}, which is no provider of --provider")
    return providers
