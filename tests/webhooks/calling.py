"""Have integrations make their calls, and hold what they write against what receivers take."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jsonschema_rs

from server.core.announcing.fields import DIALECT
from tests.webhooks import receivers
from webhooks.integrations import render
from webhooks.integrations.shapes import Answer, Prepared

KEY: Final = "0123456789abcdef0123456789abcdef"
TOKEN: Final = "ghp_" + "x" * 36
GIVEN: Final[Mapping[str, tuple[dict[str, Any], dict[str, str], str]]] = {
    "standard": ({}, {}, ""),
    "cloudevents": ({"source": "https://flags.example.com"}, {}, ""),
    "generic": ({}, {}, '{"what": "{{ type }}", "data": {{ data | json }}}'),
    "slack": ({}, {}, ""),
    "teams": ({}, {}, ""),
    "discord": ({}, {}, ""),
    "pagerduty": ({"trigger_on": ["flag.killed"]}, {"routing_key": KEY}, ""),
    "github_issue": ({"owner": "octo-org", "repository": "shop", "labels": ["debt"]}, {"token": TOKEN}, ""),
    "github_dispatch": ({"owner": "octo-org", "repository": "shop"}, {"token": TOKEN}, ""),
    "jira_issue": ({"project": "OPS", "email": "bot@example.com", "done_transition": "31"}, {"token": TOKEN}, ""),
    "apprise": ({"tag": "on-call"}, {}, ""),
}
TAKEN: Final[Mapping[str, Mapping[str, Any]]] = {
    "standard": {"type": "object"},
    "generic": {"type": "object"},
    "cloudevents": receivers.CLOUD_EVENTS,
    "slack": receivers.SLACK,
    "teams": receivers.TEAMS,
    "discord": receivers.DISCORD,
    "pagerduty": receivers.PAGERDUTY,
    "github_issue": {"anyOf": [receivers.GITHUB_ISSUE, receivers.GITHUB_STATE]},
    "github_dispatch": receivers.GITHUB_DISPATCH,
    "jira_issue": {"anyOf": [receivers.JIRA_ISSUE, receivers.JIRA_SEARCH, receivers.JIRA_TRANSITION]},
    "apprise": receivers.APPRISE,
}
SCHEMAS: Final = {
    name: jsonschema_rs.validator_for({"$schema": DIALECT, **schema}, validate_formats=True)
    for name, schema in TAKEN.items()
}
BYTES_MAX: Final = {"teams": 28_000, "github_dispatch": 65_000, "pagerduty": 512_000}
WHOLE: Final = ("standard", "cloudevents", "generic")
"""These send the event itself, which is cut where it is told."""

NOT_FOUND: Final = {"github_issue": b"[]", "jira_issue": b'{"issues":[],"isLast":true}'}


def calls(
    name: str, envelope: Mapping[str, Any], answers: Iterable[bytes] = (), template: str | None = None, **settings: Any
) -> list[Prepared]:
    """The calls that an integration makes, given these answers and then empty ones."""
    known, secrets, usual = GIVEN[name]
    making = render(
        name,
        envelope,
        settings={**known, **settings},
        secrets=secrets,
        template=usual if template is None else template,
    )
    rest = iter(answers)
    made = []
    prepared = next(making, None)
    while prepared is not None:
        made.append(prepared)
        try:
            prepared = making.send(Answer(200, next(rest, b"")))
        except StopIteration:
            prepared = None
    return made


def bodies(name: str, envelope: Mapping[str, Any], answers: Iterable[bytes] = (), **settings: Any) -> list[Any]:
    """The JSON of the bodies, each checked against what the receiver takes."""
    found = []
    for each in calls(name, envelope, answers or [NOT_FOUND.get(name, b"")], **settings):
        if each.body:
            body = json.loads(each.body)
            SCHEMAS[name].validate(body)
            assert len(each.body) <= BYTES_MAX.get(name, 200_000) or name in WHOLE
            found.append(body)
    return found
