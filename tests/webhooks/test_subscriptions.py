"""What an owner decides of an endpoint is read as a whole, or refused with everything that is wrong with it."""

from typing import Any

import pytest

from tests.webhooks.subscribing import SURROUNDINGS, TOKEN, document, subscribe
from webhooks import limits
from webhooks.errors import InvalidSetting
from webhooks.rates import Rate
from webhooks.states import Ordering
from webhooks.subscriptions import FIELDS, document_of, read_subscription


def _problems(given: object) -> dict[str, str]:
    with pytest.raises(InvalidSetting) as refused:
        read_subscription(given, SURROUNDINGS)
    return {each.path: each.message for each in refused.value.problems}


def test_a_url_and_types_are_enough() -> None:
    """Everything else has a default."""
    found = subscribe()

    assert ("standard", None, None, 4, 15.0) == (
        found.format,
        found.rate,
        found.schedule,
        found.concurrency,
        found.timeout_s,
    )
    assert ("flag.*",) == found.filter.event_types


def test_what_was_read_is_written_and_read_again() -> None:
    """A change begins with the document as it is."""
    found = subscribe(
        name="n8n",
        filter={"environments": ["production"], "tags": ["a"], "owners": ["b"], "expression": "data.flag_key == 'x'"},
        format="cloudevents",
        headers={"Authorization": TOKEN},
        rate_per_s=2.5,
        burst=3,
        concurrency=2,
        retry_schedule=[0, 60],
        ordering="per_key",
        timeout_s=5,
        source="n8n",
    )

    assert found == read_subscription(document_of(found), SURROUNDINGS)
    assert set(FIELDS) == set(document_of(found))
    assert (Rate(2.5, 3), Ordering.PER_KEY) == (found.rate, found.ordering)


def test_what_is_secret_is_in_no_text_of_it() -> None:
    """A subscription may end up in a log by its `repr`."""
    found = subscribe(headers={"Authorization": TOKEN})

    assert "T0PS3CR3T" not in repr(found) and "s3cr3t" not in repr(found)


def test_zapier_gets_its_rate() -> None:
    """25 a second and no more than 30 in any one; another rate stands when it is asked for."""
    url = "https://hooks.zapier.com/hooks/standard/1/2"

    assert Rate(25, 5) == subscribe(target_url=url).rate
    assert Rate(10, 1) == subscribe(target_url=url, rate_per_s=10).rate


def test_all_problems_are_told_at_once() -> None:
    """Each with its path, also inside of filters, headers and schedules."""
    found = _problems(
        {
            "target_url": "http://example.com/x",
            "event_types": ["flag.gone", "flag.*"],
            "filter": {"tags": "a", "colour": 1},
            "format": "pigeon",
            "headers": {"webhook-id": "1", "X-Ok": "a\nb", "x-ok": "b"},
            "rate_per_s": 0,
            "retry_schedule": [0, -1],
            "ordering": "alphabetic",
            "timeout_s": 60,
            "concurrency": 0.5,
            "source": "Zapier!",
            "color": 1,
        }
    )

    assert {
        *("/target_url", "/event_types/0", "/filter/tags", "/filter", "/format", "/headers/webhook-id"),
        *("/headers/X-Ok", "/headers/x-ok", "/rate_per_s", "/retry_schedule/1", "/ordering", "/timeout_s"),
        *("/concurrency", "/source", "/color"),
    } == set(found)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/event_types", {"event_types": []}),
        ("/event_types", {"event_types": "flag.*"}),
        ("/filter", {"filter": {"event_types": ["flag.*"]}}),
        ("/filter", {"filter": []}),
        ("/headers", {"headers": {f"X-{number}": "" for number in range(limits.HEADERS_MAX + 1)}}),
        ("/headers/X", {"headers": {"X": "v" * (limits.HEADER_CHARS_MAX + 1)}}),
        ("/headers/Host", {"headers": {"Host": "elsewhere"}}),
        ("/settings", {"settings": {"x": 1}}),
        ("/settings", {"settings": {"x": "v" * limits.SETTINGS_CHARS_MAX}}),
        ("/secrets/x", {"secrets": {"x": 1}}),
        ("/template", {"template": "{{ event.id }}"}),
        ("/name", {"name": "n" * (limits.ENDPOINT_NAME_CHARS_MAX + 1)}),
        ("/name", {"name": 3}),
        ("/rate_per_s", {"rate_per_s": True}),
        ("/rate_per_s", {"rate_per_s": float("inf")}),
        ("/burst", {"burst": 3}),
        ("/burst", {"rate_per_s": 1, "burst": 0}),
        ("/burst", {"rate_per_s": 1, "burst": 1.5}),
        ("/retry_schedule", {"retry_schedule": 5}),
        ("/retry_schedule", {"retry_schedule": []}),
        ("/timeout_s", {"timeout_s": float("nan")}),
        ("/concurrency", {"concurrency": limits.CONCURRENCY_MAX + 1}),
        ("/ordering", {"ordering": ["none"]}),
        ("/target_url", {"target_url": None}),
    ],
)
def test_one_problem(path: str, fields: dict[str, Any]) -> None:
    """Each field has its bounds, and says which."""
    assert [path] == list(_problems(document(**fields)))


@pytest.mark.parametrize("given", [None, [], "https://example.com", 1])
def test_what_is_no_document(given: object) -> None:
    """It says what one looks like."""
    assert "expected an object" in _problems(given)[""]


def test_no_problem_repeats_a_secret() -> None:
    """Neither a URL's path nor a header's value."""
    found = _problems(document(target_url="https://user:pw@example.com/T0PS3CR3T", headers={"X": TOKEN + "\n"}))

    assert "T0PS3CR3T" not in str(found) and "s3cr3t" not in str(found) and "pw" not in str(found)
