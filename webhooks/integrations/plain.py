"""Send the event itself: as it is, as a CloudEvent, or in a body of one's own."""

from webhooks.envelope import CLOUD_EVENTS_TYPE, cloud_event, compact
from webhooks.integrations.shapes import CONTENT_TYPE, Calls, Integration, Job, Prepared, Setting, compiled
from webhooks.templates import ESCAPES, JSON_TYPE


def _standard(job: Job) -> Calls:
    yield Prepared(compact(job.envelope))


def _cloud_events(job: Job) -> Calls:
    yield Prepared(cloud_event(job.envelope, job.text("source")), content_type=CLOUD_EVENTS_TYPE)


def _generic(job: Job) -> Calls:
    content_type = job.text(CONTENT_TYPE)
    body = compiled(job.template, content_type).render(job.envelope)
    yield Prepared(body, method=job.text("method"), content_type=content_type)


STANDARD = Integration(
    "standard",
    "The event as JSON, signed as Standard Webhooks has it: for your own services, Zapier, n8n, Make.",
    "where your receiver listens",
    _standard,
)
CLOUD_EVENTS = Integration(
    "cloudevents",
    "The event as a CloudEvent 1.0 in structured mode: for Knative, Event Grid, Eventarc and the like.",
    "where your broker listens",
    _cloud_events,
    (
        Setting(
            "source",
            "a URI that says where events come from, before project and environment",
            default="urn:flagstaff",
            pattern=r"[A-Za-z0-9:/?#@!$&'()*+,;=._~%-]{1,200}",
            example="https://flags.example.com",
        ),
    ),
)
GENERIC = Integration(
    "generic",
    "A body of your own, by a template: for anything that takes a call over HTTP.",
    "where your receiver listens",
    _generic,
    (
        Setting("method", "how it is called", choices=("POST", "PUT", "PATCH"), default="POST"),
        Setting(
            CONTENT_TYPE,
            "the kind of body, by which texts are escaped",
            default=JSON_TYPE,
            pattern=r"[a-z0-9.+/-]{1,80}(; ?charset=utf-8)?",
            example=", ".join(ESCAPES),
        ),
    ),
    template="the whole body",
    template_required=True,
)
