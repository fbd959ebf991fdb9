"""Read what other tools send about their alerts: which alert, whether it goes on or is over, and a text for people.

Sources: Prometheus Alertmanager, webhook_config, version 4; Grafana, webhook notifier (and the dashboard alerts before
it); Datadog, webhooks integration, its own payload and one with $ALERT_TRANSITION; PagerDuty, webhooks V3; Sentry,
integration platform (metric alerts, issue alerts, issues) and the older plugin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from server.core.errors import InvalidRequest
from server.core.json import Json

ALERTS_MAX: Final = 20
"""Of one body that are acted on."""

NAME_CHARS_MAX: Final = 200
TEXT_CHARS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that goes wrong outside, or that is over."""

    name: str
    resolved: bool = False
    text: str = ""


Read: TypeAlias = Callable[[Mapping[str, Json]], list[Alert]]


def read_alerts(preset: str, body: Mapping[str, Json]) -> list[Alert]:
    """The alerts of a body, each once; none where it says nothing of that kind.

    Errors: InvalidRequest for a body that is not the preset's.
    """
    found = PRESETS[preset](body)
    short = [Alert(each.name[:NAME_CHARS_MAX], each.resolved, each.text[:TEXT_CHARS_MAX]) for each in found]
    by_key = {(each.name, each.resolved): each for each in reversed(short)}
    # One that still fires somewhere is not over, whatever another instance of it says.
    firing = {name for name, resolved in by_key if not resolved}
    return [each for each in reversed(by_key.values()) if not (each.resolved and each.name in firing)]


def _alertmanager(body: Mapping[str, Json]) -> list[Alert]:
    alerts = body.get("alerts")
    if not isinstance(alerts, list):
        raise _strange("Alertmanager", "it has no list `alerts`")
    found = []
    for each in alerts:
        alert = _object(each)
        labels, annotations = _object(alert.get("labels")), _object(alert.get("annotations"))
        name = _text(labels.get("alertname")) or _text(_object(body.get("groupLabels")).get("alertname"))
        if not name:
            raise _strange("Alertmanager", "an alert has no label `alertname`")
        status = _text(alert.get("status")) or _text(body.get("status"))
        text = _text(annotations.get("summary")) or _text(annotations.get("description"))
        found.append(Alert(name, status == "resolved", text))
    return found


def _grafana(body: Mapping[str, Json]) -> list[Alert]:
    if "alerts" in body:
        return _alertmanager(body)
    name = _text(body.get("ruleName"))
    state = _text(body.get("state"))
    if not name or not state:
        raise _strange("Grafana", "it has neither `alerts` nor `ruleName` with `state`")
    if state not in ("alerting", "ok"):
        # Paused, pending, no data.
        return []
    return [Alert(name, state == "ok", _text(body.get("message")) or _text(body.get("title")))]


def _datadog(body: Mapping[str, Json]) -> list[Alert]:
    title = _text(body.get("alert_title")) or _text(body.get("title")) or _text(body.get("event_title"))
    transition = _text(body.get("alert_transition")) or _text(body.get("transition")) or _prefix(title)
    name = _text(body.get("alert_name")) or _without_prefixes(title)
    if not name:
        raise _strange("Datadog", "it has no `title` or `alert_title`")
    word = transition.casefold().removeprefix("re-")
    if word.startswith("recovered"):
        return [Alert(name, True, title)]
    if word.startswith("triggered") or word == "renotify":
        return [Alert(name, False, title)]
    # Warnings, and that there are no data.
    return []


def _prefix(title: str) -> str:
    """`Triggered` of `[P1] [Triggered on {host:a}] Host is down`."""
    while title.startswith("["):
        inner, _, title = title[1:].partition("]")
        if inner.split(" ")[0].casefold().removeprefix("re-") in ("triggered", "recovered", "warn", "no"):
            return inner
        title = title.lstrip()
    return ""


def _without_prefixes(title: str) -> str:
    rest = title
    while rest.startswith("[") and "]" in rest:
        rest = rest.partition("]")[2].lstrip()
    return rest or title.strip("[] ")


def _pagerduty(body: Mapping[str, Json]) -> list[Alert]:
    event = _object(body.get("event"))
    kind, data = _text(event.get("event_type")), _object(event.get("data"))
    if not kind:
        raise _strange("PagerDuty", "it has no `event` with an `event_type`")
    ends = {"incident.triggered": False, "incident.reopened": False, "incident.resolved": True}
    if kind not in ends:
        return []
    service = _text(_object(data.get("service")).get("summary"))
    title = _text(data.get("title"))
    name = service or title
    if not name:
        raise _strange("PagerDuty", "its incident has neither a service nor a title")
    return [Alert(name, ends[kind], title)]


def _sentry(body: Mapping[str, Json]) -> list[Alert]:
    action, data = _text(body.get("action")), _object(body.get("data"))
    metric, issue = _object(data.get("metric_alert")), _object(data.get("issue"))
    if metric:
        name = _text(_object(metric.get("alert_rule")).get("name")) or _text(metric.get("title"))
        text = _text(data.get("description_title")) or _text(data.get("description_text"))
        return _named("Sentry", name, resolved=action == "resolved", text=text)
    if issue:
        if action not in ("created", "unresolved", "resolved"):
            return []
        project = _object(issue.get("project"))
        name = _text(project.get("slug")) or _text(issue.get("shortId"))
        return _named("Sentry", name, resolved=action == "resolved", text=_text(issue.get("title")))
    event = _object(data.get("event"))
    if event:
        name = _text(data.get("triggered_rule")) or _text(event.get("title"))
        return _named("Sentry", name, resolved=False, text=_text(event.get("title")))
    if "triggering_rules" in body or "culprit" in body:
        rules = body.get("triggering_rules")
        name = _text(rules[0]) if isinstance(rules, list) and rules else _text(body.get("project"))
        return _named("Sentry", name, resolved=False, text=_text(body.get("message")))
    raise _strange("Sentry", "its `data` have neither `metric_alert`, `issue` nor `event`")


def _named(tool: str, name: str, *, resolved: bool, text: str) -> list[Alert]:
    if not name:
        raise _strange(tool, "its alert has no name")
    return [Alert(name, resolved, text)]


def _strange(tool: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"the body is not one of {tool}: {what}")


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _text(value: Json) -> str:
    # Kept in the audit trail of any database, which takes no NUL.
    return value.strip().replace("\0", "") if isinstance(value, str) else ""


PRESETS: Final[Mapping[str, Read]] = {
    "alertmanager": _alertmanager,
    "grafana": _grafana,
    "datadog": _datadog,
    "pagerduty": _pagerduty,
    "sentry": _sentry,
}
"""Name -> how its bodies are read."""
