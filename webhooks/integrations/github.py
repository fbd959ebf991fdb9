"""Open and close issues on GitHub, or start its workflows.

An issue is looked for before it is opened, by a label that only it has: GitHub lists by labels what it has, while its
search lags behind by up to minutes. So an event that comes twice opens one issue. Deliveries of one endpoint go one
after another for the same reason. The label needs the right to push: GitHub drops labels silently for those who have
it not, which the answer shows and the delivery then says.

A dispatch cannot be looked for, and one that comes twice starts twice; `client_payload.id` tells them apart.

Source: docs.github.com/rest (2022-11-28), issues/issues and repos/repos#create-a-repository-dispatch-event: at most 10
properties and 64 kB of client_payload, 100 characters of event_type; titles have 256, bodies 65,536, labels 50.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from webhooks.envelope import compact
from webhooks.errors import RenderFailed
from webhooks.integrations.cutting import cut, one_line, size
from webhooks.integrations.message import Message, identity_of, message
from webhooks.integrations.shapes import Answer, Calls, Integration, Job, Prepared, Setting

TITLE_CHARS_MAX: Final = 250
BODY_CHARS_MAX: Final = 30_000
DISPATCH_BYTES_MAX: Final = 60_000
DISPATCH_FIELDS: Final = (
    *("id", "type", "timestamp", "api_version", "project", "environment", "sequence", "actor", "links", "data"),
)
EVENT_TYPE_CHARS_MAX: Final = 100
CUT_CHARS: Final = 500
HEADERS: Final = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

_MARKS: Final = re.compile(r"([\\`*_{}\[\]()<>#+\-!|~&])")
_REFERS: Final = re.compile(r"(@|#|\bGH-)(?=\w)", re.IGNORECASE)
"""GitHub finds mentions and references after the markdown is gone, so that no backslash and no entity hides them from
it; a space of no width between does.
"""

_NUMBER: Final = re.compile(rb'"number"\s*:\s*([0-9]{1,12})')
_LABELS: Final = re.compile(rb'"labels"\s*:\s*\[\s*\]')


def escape(text: str) -> str:
    """A text as GitHub's markdown shows it: no markup, no references, nobody mentioned."""
    return _MARKS.sub(r"\\\1", _REFERS.sub("\\1\u200b", text))


def marker(job: Job) -> str:
    """The label, or the like, that only the issue of this event has: the same for all that is told of one thing."""
    envelope = job.envelope
    subject = identity_of(envelope) if job.text("one_per") == "subject" else ""
    parts = [str(envelope.get("project")), envelope["type"].partition(".")[0], subject]
    if not subject:
        parts.append(str(envelope["id"]))
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"flagstaff-{digest[:20]}"


def _issue_calls(job: Job) -> Calls:
    issues = f"/repos/{quote(job.text('owner'), safe='')}/{quote(job.text('repository'), safe='')}/issues"
    headers = _headers(job)
    label = marker(job)
    query = f"?labels={label}&state=all&sort=created&direction=desc&per_page=1"
    answer = yield Prepared(b"", method="GET", url_suffix=issues + query, headers=headers)
    found, closes = _found(answer), job.envelope["type"] in job.texts("close_on")
    if found is None:
        if not closes:
            made = yield Prepared(compact(_issue(job, label)), url_suffix=issues, headers=headers)
            _check_labels(made)
    elif closes:
        body = compact({"state": "closed", "state_reason": "completed"})
        yield Prepared(body, method="PATCH", url_suffix=f"{issues}/{found}", headers=headers)
    elif job.text("one_per") == "subject":
        yield Prepared(compact({"state": "open"}), method="PATCH", url_suffix=f"{issues}/{found}", headers=headers)


def _found(answer: Answer) -> int | None:
    """The number of the issue that has the label. Errors: RenderFailed for an answer that is no list."""
    body = answer.body.strip()
    if body.replace(b" ", b"") == b"[]":
        return None
    number = _NUMBER.search(body)
    # The list may be cut; an issue's number stands at its beginning.
    if not body.startswith(b"[") or number is None:
        raise RenderFailed("the endpoint did not answer with a list of issues; its URL is that of GitHub's API")
    return int(number[1])


def _check_labels(answer: Answer) -> None:
    if _LABELS.search(answer.body):
        raise RenderFailed(
            "an issue was opened, and GitHub dropped its label, by which it is known again: the token's owner needs "
            "the right to push"
        )


def _issue(job: Job, label: str) -> dict[str, Any]:
    said = message(job.envelope, job.said())
    made: dict[str, Any] = {
        "title": cut(one_line(said.title), TITLE_CHARS_MAX),
        "body": issue_text(said, job.envelope),
        "labels": [label, *job.texts("labels")],
    }
    if assignees := job.texts("assignees"):
        made["assignees"] = list(assignees)
    return made


def issue_text(said: Message, envelope: Mapping[str, Any]) -> str:
    """An issue's body: the sentence, the facts as a list, where to look, and the event."""
    lines = [cut(said.text, BODY_CHARS_MAX, escape).replace("\n", "  \n"), ""]
    lines += [f"- **{cut(name, 100, escape)}**: {cut(value, 300, escape)}" for name, value in said.facts]
    if said.link:
        lines += ["", f"<{quote(said.link, safe='/:?#[]@!$&()*+,;=%~-._')}>"]
    lines += ["", f"`{envelope['type']}` · `{envelope['id']}`"]
    return "\n".join(lines)


def _dispatch_calls(job: Job) -> Calls:
    payload = {name: job.envelope.get(name) for name in DISPATCH_FIELDS}
    if size(payload) > DISPATCH_BYTES_MAX:
        payload["data"] = _shortened(payload["data"] or {})
    body = {"event_type": cut(job.text("event_type") or job.envelope["type"], EVENT_TYPE_CHARS_MAX)}
    owner, repository = quote(job.text("owner"), safe=""), quote(job.text("repository"), safe="")
    yield Prepared(
        compact({**body, "client_payload": payload}),
        url_suffix=f"/repos/{owner}/{repository}/dispatches",
        headers=_headers(job),
    )


def _shortened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Data without their lists and objects, and with short texts."""
    return {
        **{
            name: cut(value, CUT_CHARS) if isinstance(value, str) else value
            for name, value in [*data.items()][:40]
            if not isinstance(value, list | dict)
        },
        "truncated": True,
    }


def _headers(job: Job) -> dict[str, str]:
    return {**HEADERS, "Authorization": f"Bearer {job.text('token')}"}


_REPOSITORY: Final = (
    Setting(
        "owner",
        "the user or organization that the repository belongs to",
        required=True,
        pattern=r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}",
        example="octo-org",
    ),
    Setting(
        "repository",
        "the repository's name",
        required=True,
        # Never only dots: it stands in a path.
        pattern=r"(?=.*[A-Za-z0-9_-])[A-Za-z0-9._-]{1,100}",
        example="shop",
    ),
    Setting(
        "token",
        "a token with write access to the repository's issues, or to its contents for a dispatch",
        required=True,
        secret=True,
        pattern=r"[!-~]{20,255}",
    ),
)
ONE_PER: Final = Setting(
    "one_per",
    "whether all events of one thing (a flag) share an issue, or each event has its own",
    choices=("subject", "event"),
    default="subject",
)
CLOSE_ON: Final = Setting(
    "close_on",
    "types of events that close the issue; all others open it",
    many=True,
    default=("flag.stale_cleared", "flag.archived", "flag.deleted"),
)
LABEL_PATTERN: Final = r"[^,]{1,50}"

GITHUB_ISSUE = Integration(
    "github_issue",
    "An issue on GitHub, one for a flag however often it is told, closed when it is over.",
    "https://api.github.com, or https://your.host/api/v3",
    _issue_calls,
    (
        *_REPOSITORY,
        ONE_PER,
        CLOSE_ON,
        Setting("labels", "further labels", many=True, default=(), pattern=LABEL_PATTERN),
        Setting("assignees", "who it is assigned to", many=True, default=(), pattern=r"[A-Za-z0-9-]{1,39}"),
    ),
    template="the issue's text",
    serial=True,
)
GITHUB_DISPATCH = Integration(
    "github_dispatch",
    "Starts workflows of GitHub Actions that run on repository_dispatch.",
    "https://api.github.com, or https://your.host/api/v3",
    _dispatch_calls,
    (
        *_REPOSITORY,
        Setting(
            "event_type",
            "what a workflow listens to, where it is not to be the event's type",
            pattern=r".{1,100}",
            example="flag-changed",
        ),
    ),
)
