"""The commands `flagstaff flag ...`, against a server in a process of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, Run
from tests.cli.servers import Start, serving


class Managed:
    """A command line that talks to a server with the sample flags."""

    def __init__(self, run: Run, address: str) -> None:
        self._run, self.address = run, address

    def __call__(self, *arguments: str | Path, text: str | None = None, **environment: str) -> Ran:
        """Run `flagstaff flag` with these."""
        return self._run("flag", *arguments, text=text, FLAGSTAFF_SERVER=self.address, **environment)

    def done(self, *arguments: str | Path, text: str | None = None) -> str:
        """Run what must go well; what it printed."""
        ran = self(*arguments, text=text)
        assert 0 == ran.code, ran.err
        return ran.out

    def get(self, key: str) -> Any:
        """A flag as machines get it: its shared part, and its configurations by environment."""
        told = json.loads(self.done("get", key, "--json"))
        return told["flag"], {each["environment"]: each for each in told["configs"]}


@pytest.fixture
def flags(run: Run, start: Start) -> Managed:
    """Environment production of the sample shop, and an empty one called staging."""
    assert 0 == run("import", "-", "--environment", "staging", text='{"flags": {}}').code
    told = serving(start("--demo", "--json"))
    return Managed(run, f"127.0.0.1:{told['grpc_port']}")


def test_flags_are_looked_at(flags: Managed) -> None:
    """In a table that says where they are on, or as JSON with everything."""
    listed = flags.done("list")
    filtered = json.loads(flags.done("list", "--type", "boolean", "--on", "production", "--sort", "key desc", "--json"))
    got = flags.done("get", "new-checkout")

    assert "key" in listed and "production" in listed and "7 flags in default" in listed
    assert ["payments", "new-checkout"] == [each["flag"]["key"] for each in filtered["flags"]]
    assert "boolean" == filtered["flags"][0]["flag"]["type"]
    assert "2 of 7 flags in default" in flags.done("list", "--limit", "2")
    assert all(part in got for part in ("off variant", "payments serves on", "20 % of everybody: on"))


def test_a_flag_lives_its_life(flags: Managed) -> None:
    """Created, updated, archived, restored, deleted."""
    flags.done("create", "new-ui", "--on", "staging", "--owner", "web", "--tag", "ui", "--metadata", "team=web")
    shared, configs = flags.get("new-ui")
    assert (False, True) == (configs["production"]["enabled"], configs["staging"]["enabled"])
    assert ({"team": "web"}, ["on", "off"]) == (shared["metadata"], [each["key"] for each in shared["variants"]])
    flags.done("update", "new-ui", "--permanent", "--owner", "mobile", "--reason", "moved")
    assert (False, "mobile", ["ui"]) == tuple(flags.get("new-ui")[0][name] for name in ("temporary", "owner", "tags"))
    assert "is not archived" in flags("delete", "new-ui").err
    assert "flag new-ui archived" in flags.done("archive", "new-ui")
    assert "archived" in flags.done("list", "--archived", "only")
    flags.done("restore", "new-ui")
    flags.done("delete", "new-ui", "--force")

    assert (1, "error: flag 'new-ui' is not in 'default'\n") == (
        flags("get", "new-ui").code,
        flags("get", "new-ui").err,
    )


def test_variants_are_read_as_they_are_meant(flags: Managed) -> None:
    """JSON where it is that, else a text; in a flag of texts always a text."""
    flags.done("create", "limit", "--variant", "low=10", "--variant", "high=100", "--default", "low")
    flags.done("create", "layout", "--variant", 'wide={"columns": 3}')
    flags.done("create", "year", "--variant", "a=2026", "--type", "string")
    flags.done("variant", "set", "year", "b=2027")
    flags.done("variant", "set", "limit", "more=1000")
    flags.done("variant", "remove", "limit", "high")

    values = {key: [each["value"] for each in flags.get(key)[0]["variants"]] for key in ("limit", "layout", "year")}
    assert {
        "limit": [{"intValue": 10}, {"intValue": 1000}],
        "layout": [{"objectValue": {"columns": 3}}],
        "year": [{"stringValue": "2026"}, {"stringValue": "2027"}],
    } == values
    refused = flags("variant", "remove", "limit", "low")
    assert (1, True) == (refused.code, "/flags/limit/default: variant 'low' does not exist" in refused.err)


def test_flags_are_turned_on_and_off(flags: Managed) -> None:
    """In one environment; a kill everywhere at once."""
    flags.done("create", "new-ui", "--on", "staging", "--on", "production")
    assert "new-ui turned off" in flags.done("disable", "new-ui")
    assert "nothing to do" in flags.done("disable", "new-ui")
    tried = flags.done("enable", "new-ui", "--dry-run")
    assert "a dry run: nothing was changed" in tried and "would be at revision" in tried
    flags.done("kill", "new-ui", "payments", "--everywhere", "--reason", "The bank is down")
    states = [each["enabled"] for each in flags.get("new-ui")[1].values()]

    assert [False, False] == states and not flags.get("payments")[1]["production"]["enabled"]


def test_rules_are_changed_one_by_one(flags: Managed) -> None:
    """An update keeps what it is not given, and who is in."""
    flags.done("create", "new-ui")
    flags.done("rule", "add", "new-ui", "beta", "--share", "10%", "--serve", "on", "--description", "early")
    before = flags.get("new-ui")[1]["production"]["rules"][0]
    flags.done("rule", "update", "new-ui", "beta", "--share", "25%")
    rule = flags.get("new-ui")[1]["production"]["rules"][0]
    assert {**before, "share": {**before["share"], "parts": 25_000}} == rule
    flags.done("rule", "add", "new-ui", "eu", "--if", '{"==": [{"var": "c"}, "DE"]}', "--split", "on=1,off=3")
    flags.done("rule", "move", "new-ui", "eu", "--before", "beta")
    assert ["eu", "beta"] == [each["id"] for each in flags.get("new-ui")[1]["production"]["rules"]]
    flags.done("rule", "order", "new-ui", "beta", "eu")
    flags.done("rule", "update", "new-ui", "beta", "--share", "none", "--segment", "staff")
    flags.done("rule", "remove", "new-ui", "eu")
    (left,) = flags.get("new-ui")[1]["production"]["rules"]

    assert ({"$ref": "staff"}, False) == (left["condition"], "share" in left)
    assert "it has: beta" in flags("rule", "update", "new-ui", "none", "--serve", "on").err


def test_the_rest_of_a_configuration_is_set(flags: Managed) -> None:
    """Default, off variant, targets, prerequisites."""
    flags.done("create", "new-ui")
    flags.done("default", "new-ui", "--split", "on=1,off=1", "--bucket-by", "email")
    flags.done("off-variant", "new-ui", "--none")
    flags.done("target", "add", "new-ui", "on", "alice", "bob")
    flags.done("target", "remove", "new-ui", "bob")
    flags.done("prerequisite", "add", "new-ui", "payments", "on")
    config = flags.get("new-ui")[1]["production"]

    assert "email" == config["defaultServe"]["split"]["bucketBy"]
    assert ("offVariant" in config, [{"variant": "on", "keys": ["alice"]}]) == (False, config["targets"])
    assert [{"flagKey": "payments", "variants": ["on"]}] == config["prerequisites"]
    flags.done("prerequisite", "remove", "new-ui", "payments")
    assert [] == flags.get("new-ui")[1]["production"]["prerequisites"]
    assert 1 == flags("prerequisite", "remove", "new-ui", "payments").code


def test_flags_go_from_place_to_place(flags: Managed, tmp_path: Path) -> None:
    """Copied, promoted, exported and imported."""
    preview = flags.done(
        "copy", "--all", "--from", "production", "--environment", "staging", "--with-segments", "--dry-run"
    )
    flags.done("copy", "--all", "--from", "production", "--environment", "staging", "--with-segments")
    flags.done("rule", "add", "banner", "new", "--serve", "welcome", "--environment", "staging")
    promoted = flags.done("promote", "banner", "--from", "staging", "--to", "production")
    assert "flag banner" in preview and "would be at revision" in preview
    assert "banner copied from staging to production" in promoted
    assert "new" == flags.get("banner")[1]["production"]["rules"][-1]["id"]
    flags.done("export", "--all", "--output", tmp_path / "out")
    assert ["production.json", "staging.json"] == sorted(path.name for path in (tmp_path / "out").iterdir())
    again = flags.done("import", tmp_path / "out" / "production.json")
    assert "nothing to do" in again
    flagd = flags.done("export", "--format", "flagd")
    assert "state" in next(iter(json.loads(flagd)["flags"].values()))


def test_the_slower_of_two_is_told(flags: Managed) -> None:
    """By the version that it read."""
    flags.done("disable", "payments", "--expected-version", "1")
    late = flags("enable", "payments", "--expected-version", "1")

    assert (1, True) == (late.code, "has version 2, expected version 1" in late.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x", "--variant", "nonsense"),
        ("variant", "set", "payments", "a=null"),
        ("update", "payments"),
        ("rule", "add", "payments", "r"),
        ("rule", "add", "payments", "r", "--serve", "on", "--split", "on=1"),
        ("rule", "add", "payments", "r", "--serve", "on", "--share", "150%"),
        ("rule", "add", "payments", "r", "--serve", "on", "--share", "1.0001"),
        ("rule", "add", "payments", "r", "--serve", "on", "--if", "{"),
        ("rule", "add", "payments", "r", "--split", "on=much"),
        ("rule", "move", "payments", "r", "--before", "a", "--after", "b"),
        ("default", "payments"),
        ("default", "payments", "on", "--none"),
        ("off-variant", "payments"),
        ("copy", "--from", "production"),
        ("copy", "payments", "--all", "--from", "production"),
        ("export", "--all"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_sent(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit code 2; where a server is asked first, it is not there."""
    asks_first = arguments[0] == "variant"
    ran = run("flag", *arguments, FLAGSTAFF_SERVER="127.0.0.1:1")

    assert (3 if asks_first else 2) == ran.code, ran.err


def test_a_rule_goes_by_the_clock(flags: Managed) -> None:
    """Steps of a share and the time of a rule are given, shown, and taken away."""
    rule = ("rule", "update", "new-checkout", "everybody")
    told = flags.done(
        *rule, "--share", "1%", "--then", "100%@2036-12-02T09:00Z", "--then", "10%@2036-12-01T10:00+01:00"
    )
    flags.done(*rule, "--from", "2036-11-27T00:00+01:00", "--until", "2036-12-24T00:00Z")
    shown = flags.done("get", "new-checkout")
    taken = flags.done(*rule, "--then", "none", "--from", "none", "--until", "none")

    assert (
        "later share of rule everybody none -> 10 % from 2036-12-01T09:00:00Z, 100 % from 2036-12-02T09:00:00Z" in told
    )
    assert "1 %, 10 % from 2036-12-01T09:00:00Z, 100 % from 2036-12-02T09:00:00Z of everybody" in " ".join(
        shown.split()
    )
    assert "-> none" in taken and "10 % from" not in flags.done("get", "new-checkout")


@pytest.mark.parametrize(
    ("option", "text", "why"),
    [
        ("--then", "10%", "is not PERCENT@INSTANT"),
        ("--then", "10%@tomorrow", "is not an instant with its time zone"),
        ("--from", "2026-12-01", "is not an instant with its time zone"),
    ],
)
def test_a_wrong_time_is_refused(run: Run, option: str, text: str, why: str) -> None:
    """Before anybody is asked for the flag, or with what helps."""
    ran = run("flag", "rule", "add", "new-checkout", "late", "--serve", "on", "--share", "1%", option, text)

    assert 2 == ran.code and why in " ".join(ran.err.replace("│", " ").split())
