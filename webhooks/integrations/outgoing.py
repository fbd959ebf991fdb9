"""Turn the calls of integrations into what the sender sends, to the URL of an endpoint.

Each is a generator as the dispatcher runs them: it is sent each outcome that arrived, and a call that failed is the
last. No call at all: the event is nothing that this format tells.
"""

from dataclasses import replace

from webhooks.envelope import Event, envelope
from webhooks.integrations import INTEGRATIONS
from webhooks.integrations.plain import CLOUD_EVENTS
from webhooks.integrations.shapes import Answer, Integration, Prepared
from webhooks.messages import Calls, Format, plain_formats
from webhooks.sender import Outgoing
from webhooks.subscribed import Opened


def formats(source: str) -> dict[str, Format]:
    """Name -> what makes its calls; `source` is this server as CloudEvents name it, where an endpoint says no other."""
    plain, made = plain_formats(source), {name: _sending(each) for name, each in INTEGRATIONS.items()}
    as_set = made[CLOUD_EVENTS.name]

    def cloud_events(event: Event, target: Opened, blank: Outgoing) -> Calls:
        chosen = as_set if target.subscription.settings else plain[CLOUD_EVENTS.name]
        return chosen(event, target, blank)

    return {**made, **plain, CLOUD_EVENTS.name: cloud_events}


def _sending(integration: Integration) -> Format:
    def calls(event: Event, target: Opened, blank: Outgoing) -> Calls:
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
