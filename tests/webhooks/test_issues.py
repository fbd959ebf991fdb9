"""Issues on GitHub and in Jira: one for a thing, however often it is told."""

import json
from typing import Any

import pytest

from tests.webhooks.calling import NOT_FOUND, bodies, calls
from tests.webhooks.events import example
from tests.webhooks.hub import Hub
from webhooks.errors import RenderFailed


def stale(type_: str = "flag.updated", event: str = "evt_1", **data: Any) -> dict[str, Any]:
    """An event about a flag."""
    return {**example("flag.updated", **data), "type": type_, "id": event}


def test_an_event_that_comes_twice_opens_one_issue() -> None:
    """Each flag has its own; what is over closes it, and it is opened again when it is told again."""
    hub = Hub()
    hub.tell(stale("flag.stale_cleared"))
    assert [] == hub.issues

    hub.tell(stale("flag.stale"))
    hub.tell(stale("flag.stale"))
    hub.tell(stale("flag.stale", "evt_2"))
    hub.tell(stale("flag.stale", flag_key="other"))
    assert [7, 8] == [each["number"] for each in hub.issues]

    hub.tell(stale("flag.stale_cleared", "evt_3"))
    assert ["closed", "open"] == [each["state"] for each in hub.issues]
    hub.tell(stale("flag.stale", "evt_4"))
    assert ["open", "open"] == [each["state"] for each in hub.issues]


def test_each_event_may_have_its_own_issue() -> None:
    """And still has only one."""
    hub = Hub()
    for event in ("evt_1", "evt_1", "evt_2"):
        hub.tell(stale("flag.stale", event), one_per="event")

    assert [7, 8] == [each["number"] for each in hub.issues]


@pytest.mark.parametrize("answer", [b"", b"{}", b"<html>", b'[{"title":"x"}', b'{"number": 1}'])
def test_an_answer_that_is_no_list_opens_nothing(answer: bytes) -> None:
    """It is told: else every event would open an issue."""
    with pytest.raises(RenderFailed, match="did not answer with a list of issues"):
        calls("github_issue", stale(), [answer])


def test_a_list_that_was_cut_is_read() -> None:
    """Answers are read up to a bound, and an issue's number stands at its beginning."""
    answer = b'[{"url":"https://api.github.com/repos/o/r/issues/12","id":3,"number": 12,"title":"cut off he'

    assert "/repos/octo-org/shop/issues/12" == calls("github_issue", stale(), [answer])[-1].url_suffix


def test_a_dropped_label_is_told() -> None:
    """Without it the issue would be opened again and again."""
    with pytest.raises(RenderFailed, match="GitHub dropped its label"):
        calls("github_issue", stale(), [b"[]", b'{"number": 7, "labels": [], "state": "open"}'])


def test_a_dispatch_fits_its_bounds() -> None:
    """Ten fields and 64 kB, however much an event says; its id tells two of the same apart."""
    (body,) = bodies(
        "github_dispatch", example("release.created", steps=["x" * 1_000] * 200), event_type="flag-changed"
    )

    assert ("flag-changed", "evt_5f1c0a9b2e") == (body["event_type"], body["client_payload"]["id"])
    assert body["client_payload"]["data"]["truncated"]
    (plain,) = bodies("github_dispatch", example("release.created"))
    assert ("release.created", example("release.created")["data"]) == (
        plain["event_type"],
        plain["client_payload"]["data"],
    )


def found(key: str) -> bytes:
    """An answer of Jira's search."""
    fields = {"status": {"name": "x", "statusCategory": {"id": 2, "key": key}}}
    return json.dumps({"issues": [{"id": "10042", "key": "OPS-7", "fields": fields}], "isLast": True}).encode()


def test_jira_is_searched_before_an_issue_is_opened() -> None:
    """What is there is not opened again; what is over is moved on, unless it is done already."""
    search, issue = calls("jira_issue", stale("flag.stale"), [NOT_FOUND["jira_issue"]])
    wanted, fields = json.loads(search.body)["jql"], json.loads(issue.body)["fields"]

    assert ("/rest/api/3/search/jql", "/rest/api/3/issue") == (search.url_suffix, issue.url_suffix)
    assert f'project = "OPS" AND labels = "{fields["labels"][0]}" ORDER BY created DESC' == wanted
    assert issue.headers["Authorization"].startswith("Basic ")
    assert 1 == len(calls("jira_issue", stale("flag.stale"), [found("new")]))
    over = stale("flag.stale_cleared")
    assert "/rest/api/3/issue/10042/transitions" == calls("jira_issue", over, [found("new")])[1].url_suffix
    assert 1 == len(calls("jira_issue", over, [found("done")]))
    assert 1 == len(calls("jira_issue", over, [NOT_FOUND["jira_issue"]]))
    assert 1 == len(calls("jira_issue", over, [found("new")], done_transition=""))


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"issues":[{"id":"../x"}]}', b'{"issues":[{"id":[]}]}', b"[" * 5_000]
)
def test_an_answer_that_is_not_jiras_opens_nothing(answer: bytes) -> None:
    """It is told."""
    with pytest.raises(RenderFailed, match="did not answer as Jira's search does"):
        calls("jira_issue", stale(), [answer])
