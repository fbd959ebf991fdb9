"""What receivers say that they take, as JSON Schemas: excerpts in our words of what each publishes."""

from collections.abc import Mapping
from typing import Any, Final


def _object(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _text(most: int, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most, **more}


def _list(items: dict[str, Any], most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


_MRKDWN: Final = _object({"type": {"const": "mrkdwn"}, "text": _text(3_000)}, verbatim={"type": "boolean"})
_FIELD: Final = _object({"type": {"const": "mrkdwn"}, "text": _text(2_000)}, verbatim={"type": "boolean"})
SLACK: Final = _object(
    {
        "text": _text(4_000),
        "blocks": _list(
            {
                "anyOf": [
                    _object({"type": {"const": "section"}, "text": _MRKDWN}),
                    _object({"type": {"const": "section"}, "fields": _list(_FIELD, 10)}),
                    _object({"type": {"const": "context"}, "elements": _list(_MRKDWN, 10)}),
                ]
            },
            50,
        ),
    }
)
"""Source: docs.slack.dev, reference/block-kit."""

_RUN: Final = _object(
    {"type": {"const": "TextRun"}, "text": {"type": "string"}},
    size={"enum": ["Default", "Small", "Medium", "Large", "ExtraLarge"]},
    weight={"enum": ["Default", "Lighter", "Bolder"]},
    color={"enum": ["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]},
    isSubtle={"type": "boolean"},
)
_CARD: Final = _object(
    {
        "$schema": {"type": "string", "format": "uri"},
        "type": {"const": "AdaptiveCard"},
        # Power Automate posts no newer ones: microsoft/AdaptiveCards, issue 8965.
        "version": {"const": "1.4"},
        "body": _list(_object({"type": {"const": "RichTextBlock"}, "inlines": _list(_RUN, 100)}), 100),
    },
    actions=_list(
        _object({"type": {"const": "Action.OpenUrl"}, "title": _text(100), "url": {"type": "string", "format": "uri"}}),
        6,
    ),
)
TEAMS: Final = _object(
    {
        "type": {"const": "message"},
        "attachments": _list(
            _object(
                {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": _CARD,
                }
            ),
            1,
        ),
    }
)
"""Source: adaptivecards.io/schemas/1.4.0/adaptive-card.json, learn.microsoft.com (connectors-using)."""

DISCORD: Final = _object(
    {
        "embeds": _list(
            _object(
                {
                    "title": _text(256),
                    "description": _text(4_096),
                    "color": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
                    "timestamp": {"type": "string", "format": "date-time"},
                    "footer": _object({"text": _text(2_048)}),
                    "fields": _list(
                        _object({"name": _text(256), "value": _text(1_024), "inline": {"type": "boolean"}}), 25, 0
                    ),
                },
                url={"type": "string", "format": "uri"},
            ),
            10,
        ),
        "allowed_mentions": _object({"parse": {"const": []}}),
    }
)
"""Source: docs.discord.com, resources/webhook and resources/message."""

_KEY: Final = {"routing_key": {"type": "string", "pattern": "^[A-Za-z0-9]{32}$"}, "dedup_key": _text(255)}
PAGERDUTY: Final = {
    "anyOf": [
        _object({**_KEY, "event_action": {"const": "resolve"}}),
        _object(
            {
                **_KEY,
                "event_action": {"const": "trigger"},
                "payload": _object(
                    {
                        "summary": _text(1_024),
                        "source": _text(255),
                        "severity": {"enum": ["critical", "error", "warning", "info"]},
                    },
                    timestamp={"type": "string", "format": "date-time"},
                    component=_text(255),
                    group=_text(255),
                    **{"class": _text(255)},
                    custom_details={"type": "object"},
                ),
            },
            client={"type": "string"},
            client_url={"type": "string", "format": "uri"},
            links=_list(_object({"href": {"type": "string", "format": "uri"}, "text": _text(255)}), 10),
        ),
    ]
}
"""Source: developer.pagerduty.com, events-api-v2/trigger-events."""

GITHUB_ISSUE: Final = _object(
    {"title": _text(256), "body": _text(65_536)},
    labels=_list({"type": "string", "maxLength": 50}, 100),
    assignees=_list({"type": "string"}, 10),
)
GITHUB_STATE: Final = _object(
    {"state": {"enum": ["open", "closed"]}},
    state_reason={"enum": ["completed", "not_planned", "duplicate", "reopened"]},
)
GITHUB_DISPATCH: Final = _object(
    {"event_type": _text(100), "client_payload": {"type": "object", "maxProperties": 10}},
)
"""Source: docs.github.com/rest, 2022-11-28."""

_TEXT_NODE: Final = _object(
    {"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}},
    marks=_list(
        {
            "anyOf": [
                _object({"type": {"const": "strong"}}),
                _object({"type": {"const": "link"}, "attrs": _object({"href": {"type": "string", "format": "uri"}})}),
            ]
        },
        2,
    ),
)
_PARAGRAPH: Final = _object({"type": {"const": "paragraph"}, "content": _list(_TEXT_NODE, 100)})
JIRA_ISSUE: Final = _object(
    {
        "fields": _object(
            {
                "project": _object({"key": _text(50)}),
                "issuetype": _object({"name": _text(60)}),
                "summary": _text(255, pattern=r"^[^\n\r]*$"),
                "description": _object(
                    {
                        "type": {"const": "doc"},
                        "version": {"const": 1},
                        "content": _list(
                            {
                                "anyOf": [
                                    _PARAGRAPH,
                                    _object(
                                        {
                                            "type": {"const": "bulletList"},
                                            "content": _list(
                                                _object(
                                                    {"type": {"const": "listItem"}, "content": _list(_PARAGRAPH, 1)}
                                                ),
                                                100,
                                            ),
                                        }
                                    ),
                                ]
                            },
                            30_000,
                        ),
                    }
                ),
                "labels": _list({"type": "string", "pattern": r"^\S+$"}, 100),
            }
        )
    }
)
JIRA_SEARCH: Final = _object(
    {"jql": _text(500), "maxResults": {"const": 1}, "fields": {"type": "array", "items": {"type": "string"}}}
)
JIRA_TRANSITION: Final = _object({"transition": _object({"id": {"type": "string", "pattern": "^[0-9]+$"}})})
"""Source: developer.atlassian.com/cloud/jira, rest/v3 and @atlaskit/adf-schema."""

APPRISE: Final = _object(
    {
        "title": _text(250),
        "body": _text(32_768),
        "type": {"enum": ["info", "success", "warning", "failure"]},
        "format": {"const": "text"},
    },
    tag=_text(200),
    urls=_text(500),
)
"""Source: github.com/caronc/apprise-api, README."""

CLOUD_EVENTS: Final = {
    "type": "object",
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _text(100),
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "type": _text(100),
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "sequence": {"type": "string"},
    },
    "required": ["specversion", "id", "source", "type"],
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
}
"""Source: cloudevents/spec, formats/cloudevents.json."""
