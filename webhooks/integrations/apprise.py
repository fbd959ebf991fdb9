"""Tell people by any of the services that Apprise knows, through an Apprise API server.

Apprise knows some 170 services: SMS, e-mail, ntfy, Matrix, Opsgenie and so on. Its library sends by itself, follows
redirects and asks any address that it is given, which nobody who may make an endpoint should have our server do. Its
API server (caronc/apprise-api) does the same in a place of its own, and is called like any other receiver: signed, with
retries, at an address that is checked. `notification` is what the library takes, for those who call it themselves.

Source: github.com/caronc/apprise-api, README: POST /notify/{key} or /notify with title, body, type, tag and urls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from webhooks.envelope import compact
from webhooks.integrations.cutting import cut, one_line
from webhooks.integrations.message import Tone, message
from webhooks.integrations.shapes import Calls, Integration, Job, Prepared, Setting

TITLE_CHARS_MAX: Final = 250
BODY_CHARS_MAX: Final = 10_000
TYPES: Final = {Tone.GOOD: "success", Tone.NEUTRAL: "info", Tone.WARNING: "warning", Tone.BAD: "failure"}


@dataclass(frozen=True, slots=True)
class Notification:
    """What Apprise tells: type is info, success, warning or failure; both texts are plain."""

    title: str
    body: str
    type: str


def notification(envelope: Mapping[str, Any], said: str = "") -> Notification:
    """An event as a notification; `said` takes the place of its sentence."""
    told = message(envelope, said)
    facts = [f"{name}: {value}" for name, value in told.facts]
    body = "\n".join([told.text, *facts, *([told.link] if told.link else [])])
    return Notification(cut(one_line(told.title), TITLE_CHARS_MAX), cut(body, BODY_CHARS_MAX), TYPES[told.tone])


def _calls(job: Job) -> Calls:
    told = notification(job.envelope, job.said())
    body = {"title": told.title, "body": told.body, "type": told.type, "format": "text"}
    tag, urls = job.text("tag"), job.text("urls")
    if tag:
        body["tag"] = tag
    if urls:
        body["urls"] = urls
    yield Prepared(compact(body), secret_body=bool(urls))


APPRISE = Integration(
    "apprise",
    "A notification by e-mail, SMS, ntfy, Matrix or any other service of Apprise.",
    "an Apprise API server: https://apprise.example.com/notify/your-key, or .../notify with urls",
    _calls,
    (
        Setting("tag", "who of that key is told", pattern=r"[A-Za-z0-9_., -]{1,200}", example="on-call"),
        Setting("urls", "services to tell, as Apprise writes them, where there is no key", secret=True),
    ),
    template="the notification's text",
)
