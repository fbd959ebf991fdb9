"""Show URLs and headers in logs and listings without what is secret in them.

Many receivers put their secret into the path (Slack, Zapier, Discord) or the query (`sig=` of Teams). Which ones do is
not to be known from outside, so what is shown of a URL is where it leads: its scheme, host and port, and the first part
of its path when that is a plain word.
"""

import re
from collections.abc import Mapping
from typing import Final

from yarl import URL

HIDDEN: Final = "***"
SECRET_CHARS_MIN: Final = 6
"""What is shorter is no secret, and would be found in any text."""

SHOWN_HEADERS: Final = frozenset(
    {
        "accept",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "retry-after",
        "server",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
    }
)
"""Headers whose values say nothing secret; all others are hidden, since their names are their owners' choice."""

_PLAIN_WORD = re.compile(r"hooks?|webhooks?|services|api|workflows|v[0-9]")


def show_url(text: str) -> str:
    """A URL as it may be logged and listed: `https://hooks.slack.com/services/***`."""
    try:
        url = URL(text)
        host, port = url.raw_host, url.explicit_port
    except (ValueError, TypeError):
        return HIDDEN
    if not host or url.scheme not in ("http", "https"):
        return HIDDEN
    place = f"{url.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    parts = [part for part in url.raw_path.split("/") if part]
    if not parts:
        return f"{place}/{'?' + HIDDEN if url.raw_query_string else ''}"
    first = parts[0] + "/" if _PLAIN_WORD.fullmatch(parts[0]) else ""
    rest = HIDDEN if len(parts) > 1 or not first or url.raw_query_string else ""
    return f"{place}/{first}{rest}"


def show_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they may be logged and listed: all names, and the values that cannot be secret."""
    return {name: value if name.lower() in SHOWN_HEADERS else HIDDEN for name, value in headers.items()}


def hide(text: str, *, url: str = "", headers: Mapping[str, str] | None = None) -> str:
    """A text that somebody else wrote, such as an answer, without what of this URL and these headers may be secret."""
    for secret in sorted(_secrets(url, headers or {}), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(url: str, headers: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for name, value in headers.items():
        if name.lower() not in SHOWN_HEADERS:
            # Of `Bearer abc` the second half is the secret, and may come back alone.
            found.update((value, *value.split()))
    try:
        parsed = URL(url)
    except (ValueError, TypeError):
        return {url}
    found.update((parsed.raw_query_string, *parsed.query.values()))
    found.update(part for part in parsed.raw_path.split("/") if not _PLAIN_WORD.fullmatch(part))
    return {each for each in found if len(each) >= SECRET_CHARS_MIN}
