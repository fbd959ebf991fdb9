"""The command `flagstaff evaluate`."""

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Write
from tests.cli.documents import document, flagd_file, flagd_flag


def test_an_answer_has_value_variant_and_reason(shop: Run) -> None:
    """For people as lines, for machines as JSON."""
    plain = shop("evaluate", "new-checkout", "--targeting-key", "alice")
    machine = shop("evaluate", "new-checkout", "--targeting-key", "alice", "--json")

    assert (0, ["value     true", "variant   on", "reason    TARGETING_MATCH"]) == (
        plain.code,
        plain.out.splitlines()[:3],
    )
    assert {
        "key": "new-checkout",
        "value": True,
        "variant": "on",
        "reason": "TARGETING_MATCH",
        "errorCode": None,
        "errorMessage": "",
        "metadata": {},
        "flagSet": "default/production",
        "revision": 1,
    } == machine.json


def test_explain_tells_each_step(shop: Run) -> None:
    """In order, with the bucket and the share's size; the answer is the same as without."""
    ran = shop("evaluate", "new-checkout", "-k", "user-4", "--explain", "--json")
    plain = shop("evaluate", "new-checkout", "-k", "user-4", "--explain")
    steps = ran.json.pop("steps", None) or ran.json["steps"]

    assert ["state", "prerequisite payments", "targets", "rule staff", "rule everybody", "default", "answer"] == [
        step["what"] for step in steps
    ]
    assert "bucket 96981 of 100000, let in below 20000" in steps[4]["detail"]
    assert "5. rule everybody: matched, but outside\n   outside the share: bucket 96981" in plain.out
    assert False is ran.json["value"]


def test_a_unit_without_its_key_is_outside_every_share(shop: Run) -> None:
    """And --explain says so."""
    ran = shop("evaluate", "new-checkout", "--explain", "--json")
    (step,) = [step for step in ran.json["steps"] if step["what"] == "rule everybody"]

    assert (False, "matched, but outside") == (ran.json["value"], step["outcome"])
    assert "targetingKey" in step["detail"]


def test_an_unknown_flag_is_an_error_with_a_hint(shop: Run) -> None:
    """The exit code is 1, and a flag with nearly that name is named."""
    ran, explained = shop("evaluate", "new-chekout"), shop("evaluate", "new-chekout", "--explain")

    assert (1, 1) == (ran.code, explained.code)
    assert "FLAG_NOT_FOUND" in ran.out
    assert "did you mean 'new-checkout'?" in ran.out


def test_a_broken_rule_answers_with_an_error(run: Run, write: Write) -> None:
    """A flag that was accepted leniently says what is wrong when it is reached, with exit code 1."""
    run("import", write("x.json", flagd_file(x=flagd_flag({"if": [True, "nowhere"]}))), "--lenient")
    ran = run("evaluate", "x", "--json")

    assert (1, "ERROR", None) == (ran.code, ran.json["reason"], ran.json["value"])


def test_a_damaged_flag_harms_no_other(shop: Run, tmp_path: Path) -> None:
    """It answers with an error and says so; the others answer and are explained as before."""
    with sqlite3.connect(tmp_path / "flags.db") as connection:
        connection.execute("UPDATE flag_config SET document = '[' WHERE key = 'banner'")
    connection.close()
    damaged, sound = (shop("evaluate", key, "--explain", "--json") for key in ("banner", "new-checkout"))

    assert (1, "ERROR", "damaged in the database") == (
        damaged.code,
        damaged.json["reason"],
        damaged.json["steps"][0]["outcome"],
    )
    assert (0, "off") == (sound.code, sound.json["variant"])


@pytest.mark.parametrize("way", ["given", "file", "standard input"])
def test_a_context_comes_from_anywhere(shop: Run, write: Write, way: str) -> None:
    """As an argument, from a file, from standard input."""
    context = '{"country": "FR"}'
    argument = {"given": context, "file": f"@{write('context.json', context)}", "standard input": "-"}[way]
    ran = shop("evaluate", "banner", "--context", argument, "--json", text=context)

    assert "bienvenue" == ran.json["variant"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--context", "{country: FR}"),
        ("--context", "[]"),
        ("--context", '{"a": 1, "a": 2}'),
        ("--context", "@nowhere.json"),
        ("--at", "yesterday"),
        ("--at", "2026-12-24T18:00:00"),
        ("--environment", "staging"),
    ],
)
def test_what_cannot_be_understood_is_refused(shop: Run, arguments: tuple[str, ...]) -> None:
    """With one line that says what is wrong, and exit code 1."""
    ran = shop("evaluate", "banner", *arguments)

    assert (1, "", 1) == (ran.code, ran.out, ran.err.count("\n"))
    assert ran.err.startswith("error: ")


def test_the_clock_can_be_set(run: Run, write: Write) -> None:
    """A rule that looks at the time answers as of the instant that is given."""
    opened = {">=": [{"var": "$flagd.timestamp"}, 1_798_135_200]}
    flag = {"variants": {"on": True, "off": False}, "rules": [{"condition": opened, "serve": "on"}], "default": "off"}
    run("import", write("flags.json", document(gift=flag)))

    def at(instant: str) -> str:
        return str(run("evaluate", "gift", "--at", instant, "--json").json["variant"])

    assert ("off", "on") == (at("2026-12-24T17:59:59Z"), at("2026-12-24T19:00:00+01:00"))


def test_without_a_database_nothing_is_made(run: Run, tmp_path: Path) -> None:
    """The exit code is 3, and the message says what helps."""
    ran = run("evaluate", "banner")

    assert 3 == ran.code
    assert "--database-url" in ran.err
    assert [] == list(tmp_path.iterdir())
