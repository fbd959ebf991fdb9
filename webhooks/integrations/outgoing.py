"""Turn the calls of integrations into what the sender sends, to the URL of an endpoint."""

from collections.abc import Callable, Generator
from dataclasses import replace

from webhooks.envelope import Event, envelope
from webhooks.integrations import INTEGRATIONS
from webhooks.integrations.shapes import Answer, Integration, Prepared
from webhooks.sender import Outcome, Outgoing
from webhooks.subscribed import Opened

Sending = Generator[Outgoing, Outcome, None]
"""It is sent each outcome that arrived; a call that failed is the last. No call at all: nothing is to be told."""


def formats() -> dict[str, Callable[[Event, Opened, Outgoing], Sending]]:
    """Name -> (event, endpoint, a call to the endpoint's own URL that has all but its body): the calls."""
    return {name: _sending(each) for name, each in INTEGRATIONS.items()}


def _sending(integration: Integration) -> Callable[[Event, Opened, Outgoing], Sending]:
    def calls(event: Event, target: Opened, blank: Outgoing) -> Sending:
        told = target.subscription
        making = integration.calls(integration.job(envelope(event), told.settings, told.secrets, told.template))
        prepared = next(making, None)
        while prepared is not None:
            outcome = yield outgoing(prepared, blank)
            try:
                prepared = making.send(Answer(outcome.status_code or 0, outcome.body))
            except StopIteration:
                return

    return calls


def outgoing(prepared: Prepared, blank: Outgoing) -> Outgoing:
    """A call that is ready to be sent: to the endpoint's URL, or to a place below it. Its own headers are kept."""
    url = f"{blank.url.partition('?')[0].rstrip('/')}{prepared.url_suffix}" if prepared.url_suffix else blank.url
    return replace(
        blank,
        url=url,
        body=prepared.body,
        method=prepared.method,
        content_type=prepared.content_type,
        headers={**blank.headers, **prepared.headers},
    )
