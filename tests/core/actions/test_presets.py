"""What other tools send about their alerts, as they send it."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from server.core.actions.presets import ALERTS_MAX, PRESETS, Alert, read_alerts
from server.core.actions.triggers import Effect, Trigger, check_trigger, effects_of, inputs_of
from server.core.errors import InvalidDefinition, InvalidRequest
from server.core.json import Json


def alertmanager(*statuses: str, name: str = "CheckoutErrors") -> dict[str, Any]:
    """A notification of Alertmanager, or Grafana, about one alert of several instances."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="CheckoutErrors"}',
        "truncatedAlerts": 0,
        "status": "firing" if "firing" in statuses else "resolved",
        "receiver": "flagstaff",
        "groupLabels": {"alertname": name},
        "commonLabels": {"alertname": name, "severity": "critical"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": name, "instance": f"web-{place}", "severity": "critical"},
                "annotations": {"summary": "5 % of payments fail", "description": "for ten minutes"},
                "startsAt": "2026-11-25T09:52:26.739266876Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up",
                "fingerprint": f"c6eadffa33fcdf3{place}",
            }
            for place, status in enumerate(statuses)
        ],
    }


GRAFANA: Final = {
    **alertmanager("firing"),
    "orgId": 1,
    "title": "[FIRING:1] CheckoutErrors",
    "state": "alerting",
    "message": "**Firing**",
}
GRAFANA_DASHBOARD: Final = {
    "dashboardId": 1,
    "evalMatches": [{"value": 100, "metric": "High value", "tags": None}],
    "message": "Someone is testing",
    "orgId": 1,
    "panelId": 2,
    "ruleId": 7,
    "ruleName": "CheckoutErrors",
    "ruleUrl": "https://grafana.example/d/1",
    "state": "ok",
    "title": "[OK] CheckoutErrors",
}
DATADOG: Final[dict[str, Any]] = {
    "id": "7219832",
    "event_type": "query_alert_monitor",
    "title": "[P1] [Triggered on {service:checkout}] Checkout errors",
    "body": "%%%\n5 % of payments fail @webhook-flagstaff\n%%%",
    "date": "1764064346000",
    "last_updated": "1764064346000",
    "org": {"id": "1", "name": "Shop"},
}
PAGERDUTY: Final = {
    "event": {
        "id": "5ac64822-4adc-4fda-ade0-410becf0de4f",
        "event_type": "incident.triggered",
        "resource_type": "incident",
        "occurred_at": "2026-11-25T09:52:26.739Z",
        "agent": {"id": "PXPGF42", "type": "user_reference", "summary": "Ann"},
        "client": {"name": "PagerDuty"},
        "data": {
            "id": "PT4KHLK",
            "type": "incident",
            "html_url": "https://shop.pagerduty.com/incidents/PT4KHLK",
            "number": 1234,
            "status": "triggered",
            "incident_key": "baf7cf21b1da41b4b0221008339ff357",
            "title": "Payments fail",
            "service": {"id": "PIJ90N7", "type": "service_reference", "summary": "Checkout"},
            "urgency": "high",
        },
    }
}
SENTRY_METRIC: Final = {
    "action": "critical",
    "actor": {"id": "sentry", "name": "Sentry", "type": "application"},
    "data": {
        "description_text": "1000 events in the last 10 minutes",
        "description_title": "Critical: Too many errors",
        "metric_alert": {"id": "7", "title": "Too many errors", "alert_rule": {"id": "7", "name": "Too many errors"}},
        "web_url": "https://sentry.io/organizations/shop/alerts/rules/details/7/",
    },
    "installation": {"uuid": "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},
}
SENTRY_EVENT: Final = {
    "action": "triggered",
    "actor": {"id": "sentry", "name": "Sentry", "type": "application"},
    "data": {
        "event": {"title": "ReferenceError: heck is not defined", "platform": "javascript", "project": 1},
        "triggered_rule": "Very important alert",
    },
    "installation": {"uuid": "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},
}
SENTRY_ISSUE: Final = {
    "action": "resolved",
    "data": {"issue": {"shortId": "SHOP-1", "title": "Payments fail", "project": {"slug": "checkout"}}},
}
SENTRY_PLUGIN: Final = {
    "project": "checkout",
    "project_name": "Checkout",
    "culprit": "pay in cart",
    "level": "error",
    "message": "Payments fail",
    "triggering_rules": ["Send to Flagstaff"],
    "url": "https://sentry.io/organizations/shop/issues/1/",
    "event": {},
}


def datadog(title: str = "Checkout errors", **fields: str) -> dict[str, Json]:
    """A custom payload of Datadog."""
    return {"alert_title": title, **fields}


def pagerduty(kind: str) -> dict[str, Json]:
    """Another event about the same incident."""
    return {"event": {**PAGERDUTY["event"], "event_type": kind}}


@pytest.mark.parametrize(
    ("preset", "body", "expected"),
    [
        ("alertmanager", alertmanager("firing"), [Alert("CheckoutErrors", False, "5 % of payments fail")]),
        ("alertmanager", alertmanager("resolved"), [Alert("CheckoutErrors", True, "5 % of payments fail")]),
        ("alertmanager", alertmanager("resolved", "firing"), [Alert("CheckoutErrors", False, "5 % of payments fail")]),
        ("alertmanager", {"version": "4", "alerts": []}, []),
        ("grafana", GRAFANA, [Alert("CheckoutErrors", False, "5 % of payments fail")]),
        ("grafana", GRAFANA_DASHBOARD, [Alert("CheckoutErrors", True, "Someone is testing")]),
        ("grafana", {**GRAFANA_DASHBOARD, "state": "no_data"}, []),
        ("datadog", DATADOG, [Alert("Checkout errors", False, DATADOG["title"])]),
        (
            "datadog",
            {**DATADOG, "title": "[Recovered] Checkout errors"},
            [Alert("Checkout errors", True, "[Recovered] Checkout errors")],
        ),
        ("datadog", datadog(alert_transition="Re-Triggered"), [Alert("Checkout errors", False, "Checkout errors")]),
        ("datadog", datadog(alert_transition="Recovered"), [Alert("Checkout errors", True, "Checkout errors")]),
        ("datadog", datadog(alert_transition="Warn"), []),
        ("datadog", datadog(alert_transition="No Data"), []),
        ("datadog", datadog("[No data] x"), []),
        ("pagerduty", PAGERDUTY, [Alert("Checkout", False, "Payments fail")]),
        ("pagerduty", pagerduty("incident.resolved"), [Alert("Checkout", True, "Payments fail")]),
        ("pagerduty", pagerduty("incident.acknowledged"), []),
        ("pagerduty", {"event": {"event_type": "pagey.ping", "data": {"message": "Hello"}}}, []),
        ("sentry", SENTRY_METRIC, [Alert("Too many errors", False, "Critical: Too many errors")]),
        (
            "sentry",
            {**SENTRY_METRIC, "action": "resolved"},
            [Alert("Too many errors", True, "Critical: Too many errors")],
        ),
        ("sentry", SENTRY_EVENT, [Alert("Very important alert", False, "ReferenceError: heck is not defined")]),
        ("sentry", SENTRY_ISSUE, [Alert("checkout", True, "Payments fail")]),
        ("sentry", {**SENTRY_ISSUE, "action": "assigned"}, []),
        ("sentry", SENTRY_PLUGIN, [Alert("Send to Flagstaff", False, "Payments fail")]),
    ],
)
def test_bodies_as_tools_send_them(preset: str, body: Mapping[str, Json], expected: list[Alert]) -> None:
    """Which alert, whether it is over, and a text; nothing where no alert begins or ends."""
    assert expected == read_alerts(preset, body)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"alerts": "none", "event": 3, "data": [], "title": {}, "ruleName": 1},
        {
            "alerts": [3],
            "event": {"event_type": "incident.triggered"},
            "data": {"issue": {"id": 1}},
            "action": "created",
        },
    ],
)
def test_other_bodies_are_refused(preset: str, body: Mapping[str, Json]) -> None:
    """With what is missing; whatever they hold."""
    with pytest.raises(InvalidRequest, match="the body is not one of"):
        read_alerts(preset, body)


def trigger(action: str = "kill_flag", **fields: Any) -> Trigger:
    """An address that kills a flag."""
    inputs = {"flag_key": "checkout"} if action == "kill_flag" else {}
    return Trigger("trg_1", "shop", "production", "on fire", **{"firing": Effect(action, inputs), **fields})


def test_what_a_call_comes_to() -> None:
    """Once for all alerts where the inputs are fixed; for each where its name is the signal's."""
    alerts = [Alert("a"), Alert("b"), Alert("c", True)]
    resume = Effect("resume_release", {"flag_key": "checkout"})

    assert [(trigger().firing, None)] == effects_of(trigger(), None)
    assert ["kill_flag"] == [effect.action for effect, _ in effects_of(trigger(preset="grafana"), alerts)]
    both = effects_of(trigger(preset="grafana", resolved=resume), alerts)
    assert ["kill_flag", "resume_release"] == [effect.action for effect, _ in both]
    signals = trigger("send_signal", preset="grafana")
    assert [("a", False), ("b", False), ("c", True)] == [
        (inputs["name"], inputs["resolved"])
        for inputs in (inputs_of(signals, *each) for each in effects_of(signals, alerts))
    ]
    assert ALERTS_MAX == len(effects_of(signals, [Alert(str(number)) for number in range(100)]))


def test_a_name_of_its_own_goes_before_the_alerts() -> None:
    """So that one signal stands for all alerts of a tool."""
    named = trigger("send_signal", preset="sentry", firing=Effect("send_signal", {"name": "errors"}))

    assert "errors" == inputs_of(named, named.firing, Alert("Too many"))["name"]


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        (trigger(), []),
        (trigger("send_signal", preset="alertmanager"), []),
        (trigger("send_signal"), ["/firing/inputs/name"]),
        (trigger("find_flags"), ["/firing/action"]),
        (
            trigger("explode", preset="nagios", resolved=Effect("kill_flag", {})),
            ["/preset", "/firing/action", "/resolved/inputs/flag_key"],
        ),
        (
            trigger(firing=Effect("set_flag_state", {"flag_key": "a", "on": True})),
            ["/firing/inputs/on", "/firing/inputs/enabled"],
        ),
        (trigger(resolved=Effect("kill_flag", {"flag_key": "a"})), ["/resolved"]),
        (trigger(firing=Effect("archive_flag", {"flag_key": "a"})), ["/environment"]),
    ],
)
def test_what_could_never_be_done_is_refused(wanted: Trigger, paths: list[str]) -> None:
    """When it is made, with every path."""
    try:
        check_trigger(wanted)
        found = []
    except InvalidDefinition as error:
        found = [each.path for each in error.problems]

    assert paths == found
