"""Open and close alerts of PagerDuty, by its Events API v2.

What opens an alert and what closes it name the same thing, and so the same `dedup_key`: a guard that breaches opens
one, and it recovers, or is rolled back, and that closes it. To close what is not open does nothing, and to open twice
is one alert, so an event that comes twice does no harm. The routing key stands in the body, as the API asks.

Source: developer.pagerduty.com, events-api-v2/trigger-events: summary 1,024 characters, dedup_key 255, 512 kB.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from webhooks.envelope import compact
from webhooks.integrations.cutting import cut, one_line, plain, value_text
from webhooks.integrations.message import Message, Tone, identity_of, message
from webhooks.integrations.shapes import Calls, Integration, Job, Prepared, Setting

SUMMARY_CHARS_MAX: Final = 1_024
DEDUP_KEY_CHARS_MAX: Final = 255
DETAIL_CHARS_MAX: Final = 1_000
DETAILS_MAX: Final = 60
LINK_CHARS_MAX: Final = 2_000
TRIGGER: Final = "trigger"
RESOLVE: Final = "resolve"
PING: Final = "system.ping"

ALERTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "guard.breached": (TRIGGER, ("guard_id",)),
    "guard.recovered": (RESOLVE, ("guard_id",)),
    "guard.rolled_back": (RESOLVE, ("guard_id", "policy_id")),
    "guard.roll_back_failed": (TRIGGER, ("policy_id",)),
    "release.blocked": (TRIGGER, ("release_id",)),
    "release.deadline_missed": (TRIGGER, ("release_id",)),
    "release.resumed": (RESOLVE, ("release_id",)),
    "release.completed": (RESOLVE, ("release_id",)),
    "release.aborted": (RESOLVE, ("release_id",)),
    "release.rolled_back": (RESOLVE, ("release_id", "guard_id")),
    "schedule.failed": (TRIGGER, ("schedule_id",)),
    "schedule.conflicted": (TRIGGER, ("schedule_id",)),
    "schedule.executed": (RESOLVE, ("schedule_id",)),
    "schedule.cancelled": (RESOLVE, ("schedule_id",)),
    "change_request.failed": (TRIGGER, ("change_request_id",)),
    "change_request.applied": (RESOLVE, ("change_request_id",)),
    "change_request.withdrawn": (RESOLVE, ("change_request_id",)),
    "plan.missed": (TRIGGER, ("plan_id",)),
    "plan.conflicted": (TRIGGER, ("plan_id",)),
    "plan.resumed": (RESOLVE, ("plan_id",)),
    "plan.completed": (RESOLVE, ("plan_id",)),
    "plan.cancelled": (RESOLVE, ("plan_id",)),
    "webhook.endpoint_disabled": (TRIGGER, ("endpoint_id",)),
    "webhook.endpoint_recovered": (RESOLVE, ("endpoint_id",)),
}
"""Type -> what it does, and the fields that name the alerts. Types that are not here are not told, unless asked for."""

SEVERITIES: Final = {Tone.BAD: "critical", Tone.WARNING: "warning", Tone.NEUTRAL: "info", Tone.GOOD: "info"}


def dedup_key(envelope: Mapping[str, Any], field: str, name: str) -> str:
    """What an alert is known by: `shop/production/guard_id/error-rate`, or its digest where that is too long."""
    parts = (envelope.get("project") or "", envelope.get("environment") or "", field, name)
    key = "/".join(plain(str(part)).replace("%", "%25").replace("/", "%2F") for part in parts)
    if len(key.encode()) <= DEDUP_KEY_CHARS_MAX:
        return key
    return f"flagstaff/{hashlib.sha256(key.encode()).hexdigest()}"


def _calls(job: Job) -> Calls:
    for action, field, name in _alerts(job):
        key = dedup_key(job.envelope, field, name)
        body: dict[str, Any] = {"routing_key": job.text("routing_key"), "event_action": action, "dedup_key": key}
        if action == TRIGGER:
            body |= _alert(job, message(job.envelope, job.said()))
        yield Prepared(compact(body), secret_body=True)


def _alerts(job: Job) -> Iterator[tuple[str, str, str]]:
    """What is done to which alerts: action, field and name. A ping opens one and closes it again."""
    type_, data = job.envelope["type"], job.envelope.get("data") or {}
    if type_ == PING:
        yield from ((action, "ping", str(job.envelope["id"])) for action in (TRIGGER, RESOLVE))
        return
    action, fields = ALERTS.get(type_, ("", ()))
    for asked, types in ((TRIGGER, job.texts("trigger_on")), (RESOLVE, job.texts("resolve_on"))):
        if type_ in types:
            action = asked
    if action and not fields:
        yield action, "about", identity_of(job.envelope) or str(job.envelope["id"])
    elif action:
        yield from ((action, field, str(data[field])) for field in fields if data.get(field))


def _alert(job: Job, said: Message) -> dict[str, Any]:
    envelope = job.envelope
    details = {
        name: cut(value_text(value), DETAIL_CHARS_MAX)
        for name, value in [*(envelope.get("data") or {}).items()][:DETAILS_MAX]
        if value not in (None, "", [])
    }
    made: dict[str, Any] = {
        "payload": {
            "summary": cut(one_line(f"{said.title} in {said.place}. {said.text}"), SUMMARY_CHARS_MAX),
            "source": cut(f"flagstaff {said.place}", DEDUP_KEY_CHARS_MAX),
            "severity": job.text("severity") or SEVERITIES[said.tone],
            "timestamp": envelope["timestamp"],
            "component": cut(said.subject or said.place, DEDUP_KEY_CHARS_MAX),
            "group": cut(said.place, DEDUP_KEY_CHARS_MAX),
            "class": envelope["type"],
            "custom_details": {**details, "event_id": envelope["id"]},
        },
        "client": "Flagstaff",
    }
    if said.link and len(said.link) <= LINK_CHARS_MAX:
        made |= {"client_url": said.link, "links": [{"href": said.link, "text": "Open in Flagstaff"}]}
    return made


PAGERDUTY = Integration(
    "pagerduty",
    "Alerts of PagerDuty: opened by what goes wrong, closed when it is over.",
    "https://events.pagerduty.com/v2/enqueue, or https://events.eu.pagerduty.com/v2/enqueue",
    _calls,
    (
        Setting(
            "routing_key",
            "the integration key of a service's Events API v2 integration, 32 characters",
            required=True,
            secret=True,
            pattern=r"[A-Za-z0-9]{32}",
        ),
        Setting(
            "severity",
            "of all alerts, where it is not to follow from the event",
            choices=("critical", "error", "warning", "info"),
        ),
        Setting("trigger_on", "further types of events that open an alert", many=True, default=()),
        Setting("resolve_on", "further types of events that close one", many=True, default=()),
    ),
    template="the alert's summary behind its title",
)
