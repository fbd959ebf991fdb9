"""Make of a claimed delivery the calls that send it.

Most formats take one call; some ask first and write then. So a format is a generator of calls: it is sent each call's
outcome, and ends when there is nothing more to do. A call that fails ends it, too.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Final

from webhooks.envelope import CLOUD_EVENTS_TYPE, STANDARD_TYPE, Event, cloud_event_body, standard_body
from webhooks.errors import RenderFailed
from webhooks.sender import Outcome, Outgoing
from webhooks.signing import Key
from webhooks.subscribed import Opened

Calls = Generator[Outgoing, Outcome, None]
Format = Callable[[Event, Opened, Outgoing], Calls]
"""(event, endpoint, a call to the endpoint's own URL that has all but its body): the calls."""


def calls(formats: Mapping[str, Format], event: Event, target: Opened, *, keys: tuple[Key, ...], attempt: int) -> Calls:
    """The calls of one attempt. Errors: RenderFailed, also while it is run, for a format that is not known."""
    name = target.endpoint.format
    if name not in formats:
        raise RenderFailed(f"this version knows no format {name!r}")
    subscription = target.subscription
    blank = Outgoing(
        url=subscription.url,
        body=b"",
        event_id=event.id,
        attempt=attempt,
        timeout_s=subscription.timeout_s,
        keys=keys,
        headers=subscription.headers,
    )
    return formats[name](event, target, blank)


def plain_formats(source: str) -> dict[str, Format]:
    """Our own envelope, and CloudEvents; `source` is this server as CloudEvents name it.

    A body is made once for all endpoints that get it at about the same time.
    """
    standard = _Last(standard_body)
    cloud = _Last(lambda event: cloud_event_body(event, source))

    def send_standard(event: Event, _target: Opened, blank: Outgoing) -> Calls:
        yield replace(blank, body=standard(event), content_type=STANDARD_TYPE)

    def send_cloud(event: Event, _target: Opened, blank: Outgoing) -> Calls:
        yield replace(blank, body=cloud(event), content_type=CLOUD_EVENTS_TYPE)

    return {"standard": send_standard, "cloudevents": send_cloud}


BODIES_MAX: Final = 256
"""Bodies that are kept in case that another endpoint gets the same."""


class _Last:
    """The last bodies that were made."""

    def __init__(self, make: Callable[[Event], bytes]) -> None:
        self._make = make
        self._made: dict[str, bytes] = {}

    def __call__(self, event: Event) -> bytes:
        body = self._made.get(event.id)
        if body is None:
            body = self._make(event)
            if len(self._made) >= BODIES_MAX:
                self._made.pop(next(iter(self._made)))
            self._made[event.id] = body
        return body
