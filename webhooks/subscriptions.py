"""Say what an endpoint gets and how, as its owner decides it.

It is read from plain JSON, the same document over gRPC, over HTTP and from the command line, and refused as a whole
with everything that is wrong with it.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from yarl import URL

from webhooks import limits
from webhooks.backoff import Schedule, read_schedule
from webhooks.errors import InvalidSetting, Problem
from webhooks.filters import Filter, filter_json, read_filter
from webhooks.rates import ZAPIER_RATE, Rate, read_rate
from webhooks.states import Ordering
from webhooks.urls import UrlRules, check_url

STANDARD: Final = "standard"
ZAPIER_HOST: Final = "hooks.zapier.com"
ZAPIER_BURST: Final = 5
"""Beside 25 a second it stays below the 30 of any one second."""

TIMEOUT_S: Final = 15.0
CONCURRENCY: Final = 4

EVENT_TYPES: Final = "event_types"
URL_FIELD: Final = "target_url"
FIELDS: Final = (
    *(URL_FIELD, EVENT_TYPES, "name", "filter", "format", "settings", "secrets", "template", "headers"),
    *("rate_per_s", "burst", "concurrency", "retry_schedule", "ordering", "timeout_s", "source"),
)
"""Of the document."""

OWN_HEADERS: Final = frozenset(
    {
        *("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection"),
        *("keep-alive", "te", "trailer", "upgrade", "expect", "user-agent", "cookie"),
    }
)
"""Headers that say how a message is sent, which is not for its owner to say."""

OWN_HEADER_PREFIXES: Final = ("webhook-", "proxy-")

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_SOURCE: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")

_NOTHING: Final[Mapping[str, Any]] = {}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subscription:
    """What an owner decides of an endpoint; what may be secret in it is in no `repr`."""

    url: str = field(repr=False)
    filter: Filter
    name: str = ""
    format: str = STANDARD
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the format needs besides, and is no secret."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secrets of the format, such as the key of a service that it writes to."""

    template: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate: Rate | None = None
    """None for as many as there are."""

    concurrency: int = CONCURRENCY
    schedule: Schedule | None = None
    """None for the usual one."""

    ordering: Ordering = Ordering.NONE
    timeout_s: float = TIMEOUT_S
    source: str = ""
    """Who asked for it, such as `zapier`."""


CheckFormat = Callable[[Mapping[str, Any], Mapping[str, str], str], None]
"""(settings, secrets, template): raises InvalidSetting for what a format cannot do with them."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a subscription is read against."""

    rules: UrlRules
    event_types: Collection[str]
    """All that there are."""

    formats: Mapping[str, CheckFormat]


def read_subscription(document: object, surroundings: Surroundings) -> Subscription:
    """A subscription from plain JSON.

    Errors: InvalidSetting with every problem, each with its path. No message repeats a URL or a header's value.
    """
    if not isinstance(document, Mapping):
        raise InvalidSetting.at("", f'expected an object such as {{"{URL_FIELD}": "https://example.com/hook"}}')
    reader = _Reader(document)
    reader.check_names()
    url = reader.ask(lambda: check_url(reader.text(URL_FIELD), surroundings.rules, f"/{URL_FIELD}"), "")
    filter_ = reader.ask(lambda: _filter(document, surroundings.event_types), Filter())
    settings = reader.ask(lambda: _object(document.get("settings"), "/settings"), _NOTHING)
    secrets = reader.ask(lambda: _secrets(document.get("secrets")), _NOTHING)
    template = reader.text("template", limits.TEMPLATE_CHARS_MAX)
    format_ = reader.text("format") or STANDARD
    check = surroundings.formats.get(format_)
    if check is None:
        known = ", ".join(sorted(surroundings.formats))
        reader.problems.append(Problem("/format", f"no format is called {format_[:40]!r}; there are {known}"))
    elif not reader.problems:
        reader.ask(lambda: check(settings, secrets, template), None)
    subscription = Subscription(
        url=url,
        filter=filter_,
        name=reader.text("name", limits.ENDPOINT_NAME_CHARS_MAX),
        format=format_,
        settings=settings,
        secrets=secrets,
        template=template,
        headers=reader.ask(lambda: _headers(document.get("headers")), _NOTHING),
        rate=reader.ask(lambda: _rate(document, url), None),
        concurrency=_concurrency(reader, format_),
        schedule=reader.ask(lambda: _schedule(document.get("retry_schedule")), None),
        ordering=reader.ask(lambda: _ordering(document.get("ordering")), Ordering.NONE),
        timeout_s=reader.number("timeout_s", TIMEOUT_S, limits.TIMEOUT_S_MIN, limits.TIMEOUT_S_MAX),
        source=reader.ask(lambda: _source(document.get("source")), ""),
    )
    if reader.problems:
        raise InvalidSetting(reader.problems)
    return subscription


def document_of(subscription: Subscription) -> dict[str, Any]:
    """The whole document, secrets too; `read_subscription` reads it again. It is for changing, never for showing."""
    filter_ = filter_json(subscription.filter)
    rate = subscription.rate
    return {
        URL_FIELD: subscription.url,
        EVENT_TYPES: filter_.pop(EVENT_TYPES),
        "name": subscription.name,
        "filter": filter_,
        "format": subscription.format,
        "settings": dict(subscription.settings),
        "secrets": dict(subscription.secrets),
        "template": subscription.template,
        "headers": dict(subscription.headers),
        "rate_per_s": None if rate is None else rate.per_s,
        "burst": None if rate is None else rate.burst,
        "concurrency": subscription.concurrency,
        "retry_schedule": None if subscription.schedule is None else list(subscription.schedule.delays_s),
        "ordering": subscription.ordering.value,
        "timeout_s": subscription.timeout_s,
        "source": subscription.source,
    }


def check_plain(settings: Mapping[str, Any], secrets: Mapping[str, str], template: str) -> None:
    """Refuse what a format has no use for. Errors: InvalidSetting."""
    given = {"/settings": settings, "/secrets": secrets, "/template": template}
    problems = [Problem(path, "this format takes none") for path, each in given.items() if each]
    if problems:
        raise InvalidSetting(problems)


class _Reader:
    """Takes a document's fields, and keeps what is wrong with them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.problems: list[Problem] = []

    def check_names(self) -> None:
        for name in self._document:
            if name not in FIELDS:
                self.problems.append(
                    Problem(f"/{str(name)[:40]}", f"there is no such field; there are {', '.join(FIELDS)}")
                )

    def ask(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except InvalidSetting as error:
            self.problems += error.problems
            return otherwise

    def text(self, name: str, chars_max: int = limits.URL_CHARS_MAX) -> str:
        given = self._document.get(name)
        if given is None:
            return ""
        if not isinstance(given, str) or len(given) > chars_max or "\0" in given:
            self._note(name, f"expected a text of at most {chars_max} characters")
            return ""
        return given

    def number(self, name: str, usual: float, least: float, most: float, *, whole: bool = False) -> float:
        given = self._document.get(name)
        if given is None:
            return usual
        if _is_number(given) and least <= given <= most and not (whole and given != int(given)):
            return float(given)
        self._note(name, f"expected {'a whole' if whole else 'a'} number from {least:g} to {most:g}")
        return usual

    def _note(self, name: str, message: str) -> None:
        problem = Problem(f"/{name}", message)
        # A field that two others are read by is looked at more than once.
        if problem not in self.problems:
            self.problems.append(problem)


def _concurrency(reader: _Reader, format_: str) -> int:
    """One where a format looks before it writes: two at a time would both find nothing."""
    # With it comes a library for templates, which who only keeps subscriptions has no use for.
    from webhooks.integrations import SERIAL  # noqa: PLC0415

    usual, most = (1, 1) if format_ in SERIAL else (CONCURRENCY, limits.CONCURRENCY_MAX)
    return int(reader.number("concurrency", usual, 1, most, whole=True))


def _filter(document: Mapping[str, Any], known_types: Collection[str]) -> Filter:
    types, given = document.get(EVENT_TYPES), document.get("filter")
    problems = []
    if not types or isinstance(types, str):
        problems.append(Problem(f"/{EVENT_TYPES}", 'expected a list of types such as ["flag.*"]; ["*"] is all of them'))
        types = []
    if given is None:
        given = {}
    if not isinstance(given, Mapping) or EVENT_TYPES in given:
        problems.append(Problem("/filter", 'expected an object such as {"environments": ["production"]}'))
        given = {}
    found = Filter()
    try:
        found = read_filter({**given, EVENT_TYPES: types}, known_types, "/filter")
    except InvalidSetting as error:
        inside = f"/filter/{EVENT_TYPES}"
        problems += [Problem(each.path.replace(inside, f"/{EVENT_TYPES}", 1), each.message) for each in error.problems]
    if problems:
        raise InvalidSetting(problems)
    return found


def _object(given: Any, path: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidSetting.at(path, "expected an object")
    try:
        size = len(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise InvalidSetting.at(path, "expected an object that JSON can hold") from None
    if size > limits.SETTINGS_CHARS_MAX:
        raise InvalidSetting.at(path, f"has {size} characters as JSON, at most {limits.SETTINGS_CHARS_MAX} are allowed")
    return dict(given)


def _secrets(given: Any) -> Mapping[str, str]:
    found = _object(given, "/secrets")
    problems = [
        Problem(f"/secrets/{name[:40]}", "expected a text") for name, each in found.items() if not isinstance(each, str)
    ]
    if problems:
        raise InvalidSetting(problems)
    return found


def _headers(given: Any) -> Mapping[str, str]:
    found = _object(given, "/headers")
    if len(found) > limits.HEADERS_MAX:
        raise InvalidSetting.at("/headers", f"{len(found)} headers, at most {limits.HEADERS_MAX} are allowed")
    problems = [Problem(f"/headers/{name[:100]}", why) for name, each in found.items() if (why := _header(name, each))]
    folded = [name.lower() for name in found]
    problems += [
        Problem(f"/headers/{name[:100]}", "is there twice: letters' case makes no difference")
        for name in sorted(set(folded))
        if folded.count(name) > 1
    ]
    if problems:
        raise InvalidSetting(problems)
    return found


def _header(name: str, value: Any) -> str | None:
    """Why a header cannot be; the value is never told."""
    if not _HEADER_NAME.fullmatch(name):
        return "is no name of a header"
    if name.lower() in OWN_HEADERS or name.lower().startswith(OWN_HEADER_PREFIXES):
        return "is set by the sender itself"
    if not isinstance(value, str) or not all(" " <= char <= "~" for char in value) or value != value.strip():
        return "a value is text of printable ASCII, without spaces around it"
    if len(value) > limits.HEADER_CHARS_MAX:
        return f"a value has at most {limits.HEADER_CHARS_MAX} characters, this one {len(value)}"
    return None


def _rate(document: Mapping[str, Any], url: str) -> Rate | None:
    per_s, burst = document.get("rate_per_s"), document.get("burst")
    problems = [
        Problem(f"/{name}", "expected a number")
        for name, each in (("rate_per_s", per_s), ("burst", burst))
        if each is not None and not _is_number(each)
    ]
    if burst is not None and not problems and burst != int(burst):
        problems.append(Problem("/burst", "expected a whole number"))
    if problems:
        raise InvalidSetting(problems)
    if per_s is None:
        if burst is not None:
            raise InvalidSetting.at("/burst", "is of no use without rate_per_s")
        return Rate(ZAPIER_RATE, ZAPIER_BURST) if url and URL(url).raw_host == ZAPIER_HOST else None
    try:
        return read_rate(float(per_s), 1 if burst is None else int(burst), "/rate_per_s")
    except InvalidSetting as error:
        raise InvalidSetting(
            [Problem(each.path.replace("/rate_per_s/burst", "/burst"), each.message) for each in error.problems]
        ) from None


def _schedule(given: Any) -> Schedule | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple):
        raise InvalidSetting.at("/retry_schedule", "expected a list of seconds such as [0, 5, 300]")
    return read_schedule(given)


def _ordering(given: Any) -> Ordering:
    try:
        return Ordering(given) if given else Ordering.NONE
    except ValueError:
        raise InvalidSetting.at("/ordering", f"expected {' or '.join(Ordering)}") from None


def _source(given: Any) -> str:
    if given in (None, ""):
        return ""
    if not isinstance(given, str) or not _SOURCE.fullmatch(given):
        raise InvalidSetting.at("/source", "expected a word such as zapier, of a-z, 0-9, dot, underscore and hyphen")
    return given


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
