"""Open issues in Jira Cloud, and close them by a transition.

An issue is looked for before it is opened, by a label that only it has. Jira searches an index that lags behind by
seconds: an answer that is lost and tried again within that time may open a second issue; the usual wait before the
second attempt is 5 s. Deliveries of one endpoint go one after another. Descriptions are documents of text nodes, which
know no markup.

Source: developer.atlassian.com/cloud/jira/platform/rest/v3 (search/jql, issue, transitions) and apis/document: a
summary has 255 characters and one line, a description 32,767.
"""

import base64
import json
from typing import Any, Final

from webhooks.envelope import compact
from webhooks.errors import RenderFailed
from webhooks.integrations.cutting import cut, one_line
from webhooks.integrations.github import CLOSE_ON, ONE_PER, marker
from webhooks.integrations.message import Message, message
from webhooks.integrations.shapes import Answer, Calls, Integration, Job, Prepared, Setting

SUMMARY_CHARS_MAX: Final = 250
TEXT_CHARS_MAX: Final = 20_000
LINK_CHARS_MAX: Final = 2_000
SEARCH: Final = "/rest/api/3/search/jql"
ISSUE: Final = "/rest/api/3/issue"
DONE: Final = "done"


def document(said: Message, event_id: str) -> dict[str, Any]:
    """A message in Atlassian's document format: paragraphs, facts as a list, a link as a mark."""
    content = [_paragraph(_text(line)) for line in cut(said.text, TEXT_CHARS_MAX).split("\n") if line.strip()]
    if said.facts:
        items = [
            {
                "type": "listItem",
                "content": [_paragraph(_text(f"{cut(name, 100)}: ", {"type": "strong"}), _text(cut(value, 300)))],
            }
            for name, value in said.facts
        ]
        content.append({"type": "bulletList", "content": items})
    if said.link and len(said.link) <= LINK_CHARS_MAX:
        content.append(_paragraph(_text(said.link, {"type": "link", "attrs": {"href": said.link}})))
    content.append(_paragraph(_text(f"{said.place} · {said.actor} · {event_id}")))
    return {"type": "doc", "version": 1, "content": content}


def _calls(job: Job) -> Calls:
    headers = {"Accept": "application/json", "Authorization": _authorization(job)}
    label = marker(job)
    wanted = f'project = "{job.text("project")}" AND labels = "{label}" ORDER BY created DESC'
    search = {"jql": wanted, "maxResults": 1, "fields": ["status"]}
    answer = yield Prepared(compact(search), url_suffix=SEARCH, headers=headers)
    found, done = _found(answer)
    closes, transition = job.envelope["type"] in job.texts("close_on"), job.text("done_transition")
    if not found and not closes:
        yield Prepared(compact({"fields": _fields(job, label)}), url_suffix=ISSUE, headers=headers)
    elif found and closes and transition and not done:
        body = compact({"transition": {"id": transition}})
        yield Prepared(body, url_suffix=f"{ISSUE}/{found}/transitions", headers=headers)


def _found(answer: Answer) -> tuple[str, bool]:
    """The id of the issue that has the label, and whether it is done. Errors: RenderFailed for another answer."""
    try:
        issues = json.loads(answer.body)["issues"]
        if not issues:
            return "", False
        found, fields = str(int(issues[0]["id"])), issues[0].get("fields") or {}
        return found, fields.get("status", {}).get("statusCategory", {}).get("key") == DONE
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise RenderFailed(
            "the endpoint did not answer as Jira's search does; its URL is https://your-site.atlassian.net"
        ) from None


def _fields(job: Job, label: str) -> dict[str, Any]:
    said = message(job.envelope, job.said())
    return {
        "project": {"key": job.text("project")},
        "issuetype": {"name": job.text("issue_type")},
        "summary": cut(one_line(said.title), SUMMARY_CHARS_MAX),
        "description": document(said, str(job.envelope["id"])),
        "labels": [label, *job.texts("labels")],
    }


def _authorization(job: Job) -> str:
    known = f"{job.text('email')}:{job.text('token')}".encode()
    return f"Basic {base64.b64encode(known).decode()}"


def _paragraph(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "paragraph", "content": list(content)}


def _text(text: str, mark: dict[str, Any] | None = None) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "text", "text": text}
    return node if mark is None else {**node, "marks": [mark]}


JIRA_ISSUE = Integration(
    "jira_issue",
    "An issue in Jira Cloud, one for a flag however often it is told.",
    "your site, https://your-site.atlassian.net",
    _calls,
    (
        Setting(
            "project",
            "the key of the project that issues are opened in",
            required=True,
            pattern=r"[A-Z][A-Z0-9_]{0,49}",
            example="OPS",
        ),
        Setting("issue_type", "what kind of issue", default="Task", pattern=r".{1,60}"),
        Setting(
            "email",
            "the address of the account that the token belongs to",
            required=True,
            pattern=r"[^\s:]{1,200}",
            example="bot@example.com",
        ),
        Setting("token", "an API token of that account", required=True, secret=True, pattern=r"[!-~]{8,500}"),
        ONE_PER,
        CLOSE_ON,
        Setting(
            "done_transition",
            "the number of the transition that closes an issue; without it none is closed",
            pattern=r"[0-9]{1,10}",
            example="31",
        ),
        Setting("labels", "further labels, without spaces", many=True, default=(), pattern=r"\S{1,255}"),
    ),
    template="the issue's text",
    serial=True,
)
