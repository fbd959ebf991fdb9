"""Integrations: what they write is what each receiver takes, for every event, whatever its texts hold."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.calling import GIVEN, KEY, NOT_FOUND, WHOLE, bodies, calls
from tests.webhooks.events import example, examples
from webhooks.errors import InvalidSetting, RenderFailed
from webhooks.integrations import INTEGRATIONS, discord, github, render, slack
from webhooks.integrations.apprise import Notification, notification
from webhooks.integrations.cutting import cut, units
from webhooks.integrations.message import Tone, message


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_every_event_is_written_as_its_receiver_takes_it(name: str) -> None:
    """The same bytes each time; PagerDuty and issues tell nothing of some."""
    for envelope in examples():
        made = bodies(name, envelope)

        assert made == bodies(name, envelope)
        assert (
            made or name == "pagerduty" or envelope["type"] in ("flag.stale_cleared", "flag.archived", "flag.deleted")
        )


NASTY: Final = (
    *('"', "\\", "<!channel>", "<@U123>", "&amp;", "@everyone", "@here", "<@&1>", "*b*", "_i_", "~s~", "`c`", "||x||"),
    *(
        "[a](http://x)",
        "{{DATE(2026-11-25T09:00:00Z)}}",
        "{{ x }}",
        "${x}",
        "@octocat",
        "#1",
        "GH-1",
        "octo/x#2",
        "\u202e",
    ),
    *("\n\n# h", "- x", "```", "\x00", "\x1b[31m", "\r\n", "\u2028", "\ud800", "😀" * 30, "é" * 50, "x" * 5_000, ""),
)
TEXTS: Final = st.lists(st.sampled_from(NASTY) | st.text(max_size=10), min_size=1, max_size=6).map("".join)
ABOUT: Final = (
    *("flag.targeting_changed", "flag.archived", "guard.breached", "guard.rolled_back", "release.blocked"),
    *("change_request.opened", "segment.updated"),
)


def hostile(type_: str, text: str) -> dict[str, Any]:
    """An event of which every text is the given one."""
    envelope = example(type_)
    envelope["data"] = {
        name: text
        if isinstance(value, str)
        else [text] * 30
        if isinstance(value, list) and name != "changes"
        else [{"path": text, "old": text, "new": text, "text": text}] * 30
        if name == "changes"
        else value
        for name, value in envelope["data"].items()
    }
    return {**envelope, "actor": {"type": "user", "id": text, "name": text}}


@given(st.sampled_from(ABOUT), TEXTS, st.sampled_from(sorted(set(INTEGRATIONS) - {"generic"})))
def test_no_text_breaks_a_body(type_: str, text: str, name: str) -> None:
    """It stays within its receiver's bounds and its markup stays text."""
    for body in bodies(name, hostile(type_, text)):
        written = list(_strings(body))
        if name == "slack":
            assert not any(re.search(r"<(?!https://flags\.example\.com/[^<>]*\|Open>)", each) for each in written)
        if name == "discord":
            (embed,) = body["embeds"]
            assert {"parse": []} == body["allowed_mentions"]
            assert sum(units(each) for each in _strings({**embed, "url": "", "timestamp": ""})) <= 6_000
            assert not re.search(r"(?<!\\)(?:\\\\)*[*_`<|]", embed["description"])
        if name == "teams":
            assert not any("{{" in each for each in written)
        if name == "github_issue" and "body" in body:
            assert not re.search(r"[@#]\\?\w|\bGH\\?-\\?\w", body["body"])
        if name not in (*WHOLE, "github_dispatch"):
            assert not any("\u202e" in each or "\x00" in each for each in written)


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


@given(TEXTS, st.integers(2, 200), st.sampled_from([str, slack.escape, discord.escape, github.escape]))
def test_a_text_is_cut_within_its_bound(text: str, most: int, escape: Any) -> None:
    """And never in the middle of what was escaped: what is left is an escaped beginning."""
    made = cut(text, most, escape)

    assert units(made) <= most
    if made.endswith("…") and "…" not in text:
        whole = cut(text, 1_000_000, escape)
        assert whole.startswith(made[:-1])
        assert not re.search(r"&(?:a|am|amp|l|lt|g|gt)?$", made[:-1]) or escape is not slack.escape
        assert escape is str or escape is slack.escape or len(re.findall(r"\\*$", made[:-1])[0]) % 2 == 0


def test_an_event_says_itself() -> None:
    """By its type, what it is about, who did it, its differences and its reason."""
    said = message(example("flag.targeting_changed"))

    assert ("Flag targeting changed: new-checkout", "shop/production", Tone.NEUTRAL) == (
        said.title,
        said.place,
        said.tone,
    )
    assert (
        "In shop/production by Zoë.\n• share of rule beta 10 % -> 25 %\nReason: nobody complained at 10 %" == said.text
    )
    assert "https://flags.example.com/shop/production/new-checkout" == said.link
    assert ("Guard breached: error-rate", Tone.BAD) == (
        (guard := message(example("guard.breached"))).title,
        guard.tone,
    )
    assert "Release step advanced: new checkout" == message(example("release.step_advanced")).title


@pytest.mark.parametrize("name", [name for name in INTEGRATIONS if INTEGRATIONS[name].template and name != "generic"])
def test_a_template_takes_the_place_of_the_sentence(name: str) -> None:
    """And is escaped like any text."""
    made = calls(
        name, example("guard.breached"), [NOT_FOUND.get(name, b"")], "<b>{{ data.guard_id }}</b> of {{ project }}"
    )[-1].body.decode()

    assert "error" in made
    assert "of shop" in made
    assert "its gates hold" not in made or name == "pagerduty"
    assert ("&lt;b&gt;" in made) == (name == "slack")


def test_the_generic_one_sends_what_its_template_makes() -> None:
    """With its method and its content type."""
    (prepared,) = calls(
        "generic", example("flag.killed"), (), "flag={{ data.flag_key }}&why={{ data.reason }}",
        content_type="application/x-www-form-urlencoded", method="PUT",
    )  # fmt: skip

    assert ("PUT", "application/x-www-form-urlencoded", "") == (
        prepared.method,
        prepared.content_type,
        prepared.url_suffix,
    )
    assert b"flag=new-checkout&why=nobody+complained+at+10+%25" == prepared.body
    with pytest.raises(RenderFailed, match=r"data\.nope is undefined"):
        calls("generic", example("flag.killed"), (), '"{{ data.nope }}"')


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        ("guard.breached", "guard.recovered"),
        ("guard.breached", "guard.rolled_back"),
        ("release.blocked", "release.completed"),
        ("schedule.failed", "schedule.executed"),
        ("plan.missed", "plan.resumed"),
        ("change_request.failed", "change_request.applied"),
        ("webhook.endpoint_disabled", "webhook.endpoint_recovered"),
    ],
)
def test_what_is_over_closes_what_it_opened(opens: str, closes: str) -> None:
    """Both name the same thing, so that PagerDuty knows the alert."""
    data = {"guard_id": "error-rate", "policy_id": "", "release_id": "rl_1"}
    (opened,) = bodies("pagerduty", example(opens, **data))
    closed = bodies("pagerduty", example(closes, **data))

    assert ("trigger", {"resolve"}) == (opened["event_action"], {each["event_action"] for each in closed})
    assert opened["dedup_key"] in {each["dedup_key"] for each in closed}
    assert opened["dedup_key"] != bodies("pagerduty", {**example(opens, **data), "environment": "dev"})[0]["dedup_key"]


def test_a_roll_back_closes_the_guards_alert_and_the_policys() -> None:
    """A ping opens one and closes it; a type that nobody asked for is not told."""
    closed = bodies("pagerduty", example("guard.rolled_back", guard_id="g/1", policy_id="p"))

    assert ["shop/production/guard_id/g%2F1", "shop/production/policy_id/p"] == [each["dedup_key"] for each in closed]
    assert ["trigger", "resolve"] == [each["event_action"] for each in bodies("pagerduty", example("system.ping"))]
    assert [] == bodies("pagerduty", example("flag.updated"))
    assert ["trigger"] == [each["event_action"] for each in bodies("pagerduty", example("flag.killed"))]
    assert ["resolve"] == [
        each["event_action"] for each in bodies("pagerduty", example("flag.enabled"), resolve_on=["flag.enabled"])
    ]
    assert all(each.secret_body for each in calls("pagerduty", example("guard.breached")))
    long = bodies("pagerduty", example("guard.breached", guard_id="é" * 400))[0]["dedup_key"]
    assert long.startswith("flagstaff/")


def test_apprise_gets_plain_texts() -> None:
    """As its library takes them, too."""
    told = notification(example("guard.breached"))

    assert ("Guard breached: error-rate", "failure") == (told.title, told.type)
    assert Notification("Guard breached: error-rate", "x", "failure").title == told.title
    (prepared,) = calls("apprise", example("guard.breached"))
    assert {
        "title": told.title,
        "body": told.body,
        "type": told.type,
        "format": "text",
        "tag": "on-call",
    } == json.loads(prepared.body)


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_what_an_integration_needs_is_listed(name: str) -> None:
    """Each setting with what it is; what is right is taken, and examples are right."""
    integration = INTEGRATIONS[name]
    settings, secrets, template = GIVEN[name]
    integration.check(settings, secrets, template)
    integration.try_on(settings, secrets, template, examples=list(examples()))

    assert integration.about.endswith(".")
    assert all(each.help for each in integration.settings)
    required = {each.name for each in integration.settings if each.required}
    assert required <= {*settings, *secrets}
    for each in integration.settings:
        if each.example and each.pattern and not each.secret:
            assert re.fullmatch(each.pattern, each.example) or name == "generic"


@pytest.mark.parametrize(
    ("name", "settings", "secrets", "template", "problems"),
    [
        ("slack", {"x": 1}, {}, "", ["/settings/x: slack has none of that name; there are none"]),
        ("standard", {}, {}, "{{ x }}", ["/template: standard takes none"]),
        ("generic", {}, {}, "", ["/template: a template has 1 to 16000 characters, not 0"]),
        ("generic", {"method": "GET"}, {}, "x", ["/settings/method: expected one of POST, PUT, PATCH"]),
        ("generic", {"content_type": "image/png"}, {}, "x", ["/settings/content_type: 'image/png' is none of "]),
        ("slack", {}, {}, "{{ a | joyn }}", ["/template: line 1: unknown filter 'joyn'; did you mean 'json'?"]),
        (
            "pagerduty",
            {"routing_key": KEY, "severity": "bad", "trigger_on": "x"},
            {},
            "",
            [
                "/settings/routing_key: stands under secrets",
                "/settings/severity: expected one of critical, error, warning, info",
                "/settings/trigger_on: expected a list of at most 50 texts: further types of events that open an alert",
                "/secrets/routing_key: is required: the integration key",
            ],
        ),
        ("pagerduty", {}, {"routing_key": "short-secret"}, "", ["/secrets/routing_key: expected the integration key"]),
        (
            "github_issue",
            {"owner": "../x", "repository": "..", "ownr": "x", "labels": ["a,b"]},
            {"token": "x"},
            "",
            [
                "/settings/ownr: github_issue has none of that name; did you mean 'owner'?",
                "/settings/owner: expected the user or organization that the repository belongs to, such as octo-org",
                "/settings/repository: expected the repository's name, such as shop",
                "/settings/labels: expected further labels",
                "/secrets/token: expected a token",
            ],
        ),
        (
            "jira_issue",
            {"project": 'OPS" OR x', "email": "a b"},
            {},
            "",
            ["/settings/project: ", "/settings/email: ", "/secrets/token: is required"],
        ),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_with_every_problem(
    name: str, settings: dict[str, Any], secrets: dict[str, str], template: str, problems: list[str]
) -> None:
    """And no message repeats a secret."""
    with pytest.raises(InvalidSetting) as caught:
        INTEGRATIONS[name].check(settings, secrets, template)

    told = [str(each) for each in caught.value.problems]
    assert len(problems) == len(told), told
    assert all(any(each.startswith(problem) for each in told) for problem in problems), told
    assert not any(secret in each for each in told for secret in secrets.values() if len(secret) > 3)


def test_a_template_is_tried_on_every_type() -> None:
    """Where it is written, each problem once."""
    with pytest.raises(
        InvalidSetting, match=r"change_request.applied, .* and \d+ more: line 1: data.flag_key is undefined"
    ):
        INTEGRATIONS["slack"].try_on({}, {}, "{{ data.flag_key }}", examples=list(examples()))


def test_an_unknown_format_is_told() -> None:
    """With those that there are."""
    with pytest.raises(RenderFailed, match="there is no format 'slak'; there are standard, "):
        render("slak", example("flag.killed"), settings={}, secrets={})
