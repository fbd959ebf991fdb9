"""What people are told of a change, case by case."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from server.core.access import Role
from server.core.descriptions.differences import Difference, describe, describe_documents, describe_event
from server.core.environments import ApprovalPolicy, Bucketing, Covered, Environment, FreezeWindow, Project
from server.core.events import EnvironmentUpdated, FlagCreated, FlagRemoved, FlagUpdated
from server.core.flags import (
    Flag,
    FlagConfig,
    FlagDefinition,
    FlagKind,
    Outside,
    Prerequisite,
    Rule,
    Share,
    ShareStep,
    Split,
    Target,
    ValueType,
)
from server.core.json import Json, Scalar
from server.core.segments import Segment

FLAG = Flag("new-ui", ValueType.BOOLEAN, {"on": True, "off": False})
STAFF = Rule("staff", "on", {"ends_with": [{"var": "email"}, "@example.com"]})
STEPS = tuple(ShareStep(datetime(2026, 12, day, 9, tzinfo=UTC), parts) for day, parts in ((1, 25_000), (2, 100_000)))
BETA = Rule("beta", "on", {"==": [{"var": "plan"}, "beta"]}, Share(10_000, "new-ui/beta/share"))
REST = Rule("rest", Split((("on", 50), ("off", 50)), "new-ui/rest/split"))
CONFIG = FlagConfig(rules=(STAFF, BETA, REST), default="off", off_variant="off")
SPLIT = Split((("on", 50), ("off", 50)), "new-ui/default/split")


def lines(before: FlagConfig, after: FlagConfig) -> list[str]:
    """The differences between two configurations, as text."""
    return list(map(str, describe(FlagDefinition(FLAG, before), FlagDefinition(FLAG, after))))


def with_rules(*rules: Rule) -> FlagConfig:
    """The configuration with other rules."""
    return replace(CONFIG, rules=rules)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (replace(CONFIG, enabled=False), ["state on -> off"]),
        (replace(CONFIG, off_variant=None), ["off variant off -> the caller's default"]),
        (replace(CONFIG, default=None), ["default off -> the caller's default"]),
        (replace(CONFIG, default=SPLIT), ["default off -> split on 50 / off 50"]),
        (
            replace(CONFIG, default=replace(SPLIT, bucket_by="email")),
            ["default off -> split on 50 / off 50 by email"],
        ),
        (replace(CONFIG, lenient=True), ["lenient no -> yes"]),
        (replace(CONFIG, targets=(Target("on", ("a", "b")),)), ["targets of on: +2"]),
        (
            replace(CONFIG, prerequisites=(Prerequisite("pay", ("on", "off")),)),
            ["prerequisite pay added: needs on or off"],
        ),
        (with_rules(STAFF, BETA), ["rule rest removed"]),
        (with_rules(BETA, REST, STAFF), ["rule staff moved at the end"]),
        (with_rules(REST, STAFF, BETA), ["rule rest moved before rule staff"]),
        (
            with_rules(Rule("vip", "on", {"$ref": "vip"}), STAFF, BETA, REST),
            ["rule vip added before rule staff: if segment vip: on"],
        ),
        (
            with_rules(STAFF, BETA, REST, Rule("last", "off", None, Share(500, "x"))),
            ["rule last added at the end: everybody, share 0.5 %: off"],
        ),
        (with_rules(STAFF, replace(BETA, share=Share(25_000, "new-ui/beta/share")), REST),
         ["share of rule beta 10 % -> 25 %"]),
        (with_rules(STAFF, replace(BETA, share=None), REST), ["share of rule beta 10 % -> none"]),
        (
            with_rules(STAFF, replace(BETA, share=Share(10_000, "new-ui/beta/share", steps=STEPS)), REST),
            ["later share of rule beta none -> 25 % from 2026-12-01T09:00:00Z, 100 % from 2026-12-02T09:00:00Z"],
        ),
        (
            with_rules(STAFF, replace(BETA, starts_at=STEPS[0].at, ends_at=STEPS[1].at), REST),
            ["begin of rule beta none -> 2026-12-01T09:00:00Z", "end of rule beta none -> 2026-12-02T09:00:00Z"],
        ),
        (
            with_rules(STAFF, BETA, REST, Rule("l", "off", None, Share(5, "x", steps=STEPS[:1]), ends_at=STEPS[1].at)),
            ["rule l added at the end: everybody, share 0.005 %, 25 % from 2026-12-01T09:00:00Z, "
             "until 2026-12-02T09:00:00Z: off"],
        ),
        (
            with_rules(STAFF, replace(BETA, share=Share(10_000, "new")), REST),
            ["units are dealt anew, salt of share of rule beta new-ui/beta/share -> new"],
        ),
        (
            with_rules(STAFF, replace(BETA, share=Share(10_000, "new-ui/beta/share", "email")), REST),
            ["units are dealt anew, unit of share of rule beta targetingKey -> email"],
        ),
        (with_rules(STAFF, replace(BETA, outside=Outside.DEFAULT), REST),
         ["outside the share of rule beta next -> default"]),
        (with_rules(STAFF, replace(BETA, serve="off"), REST), ["serve of rule beta on -> off"]),
        (with_rules(replace(STAFF, description="us"), BETA, REST), ['description of rule staff "" -> "us"']),
        (
            with_rules(replace(STAFF, condition={"$ref": "staff"}), BETA, REST),
            ['condition of rule staff email ends_with "@example.com" -> segment staff'],
        ),
        (
            FlagConfig(default="off", off_variant="off", targeting={"if": [{"$ref": "beta"}, "on"]}),
            [
                "rule staff removed",
                "rule beta removed",
                "rule rest removed",
                'targeting none -> if(segment beta, "on")',
            ],
        ),
    ],
)  # fmt: skip
def test_a_configuration_is_described(after: FlagConfig, expected: list[str]) -> None:
    """One line for each thing that differs, in the words of those who changed it."""
    assert expected == lines(CONFIG, after)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"variants": {"on": True, "off": False, "maybe": True}}, ["variant maybe added: true"]),
        ({"variants": {"on": True}}, ["variant off removed"]),
        ({"variants": {"on": True, "off": 0}}, ["variant off: false -> 0"]),
        ({"variants": {"off": False, "on": True}}, ["order of variants: on, off -> off, on"]),
        ({"kind": FlagKind.OPERATIONAL, "temporary": False}, ["kind release -> operational",
                                                              "lifetime temporary -> permanent"]),
        ({"expected_lifetime_days": 30}, ["expected lifetime none -> 30 days"]),
        ({"owner": "team-a"}, ['owner "" -> "team-a"']),
        ({"tags": ("a", "b")}, ["tags: +a, +b"]),
        ({"metadata": {"cost": 1}}, ["metadata cost added: 1"]),
        ({"description": "one\nline"}, ['description "" -> "one\\nline"']),
        ({"archived_at": datetime(2026, 1, 2, tzinfo=UTC)}, ["archived at 2026-01-02T00:00:00Z"]),
    ],
)  # fmt: skip
def test_what_all_environments_share_is_described(changes: Mapping[str, object], expected: list[str]) -> None:
    """Owner, tags and the rest are part of it."""
    after = FlagDefinition(replace(FLAG, **changes), CONFIG)  # type: ignore[arg-type]  # A mapping of mixed fields.

    assert expected == list(map(str, describe(FlagDefinition(FLAG, CONFIG), after)))


def test_targets_are_counted() -> None:
    """How many came and went; machines get their names."""
    before = replace(CONFIG, targets=(Target("on", ("a", "b")), Target("off", ("c",))))
    after = replace(CONFIG, targets=(Target("on", ("b", "d", "e")), Target("off", ("c",))))
    found = describe(FlagDefinition(FLAG, before), FlagDefinition(FLAG, after))

    assert (Difference("/targets/on", ["a"], ["d", "e"], "targets of on: +2 -1"),) == found


def test_places_are_named() -> None:
    """Rules by id, since their index says nothing after a move."""
    after = replace(CONFIG, rules=(BETA, replace(STAFF, serve="off"), REST))
    found = describe(FlagDefinition(FLAG, CONFIG), FlagDefinition(FLAG, after))

    assert [("/rules/beta/place", 2, 1), ("/rules/staff/serve", "on", "off")] == [
        (each.path, each.before, each.after) for each in found
    ]


def test_a_long_condition_is_told_where_it_differs() -> None:
    """Nobody reads two lists of fifty countries to find the one that was added."""
    countries = [f"country-{number}" for number in range(50)]
    long = {"and": [{"==": [{"var": "plan"}, "pro"]}, {"in": [{"var": "country"}, countries]}]}
    longer = {"and": [{"==": [{"var": "plan"}, "free"]}, long["and"][1]]}
    before, after = with_rules(replace(STAFF, condition=long)), with_rules(replace(STAFF, condition=longer))

    assert ['condition of rule staff at /and/0/==/1: "pro" -> "free"'] == lines(before, after)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"!": {"var": "a"}}, {"!": [{"var": "a"}]}, 'condition {"!": {"var": "a"}} -> {"!": [{"var": "a"}]}'),
        ({"==": [1, 1]}, {"==": [1, 1.0]}, "condition 1 == 1 -> 1 == 1.0"),
        ({"!": [{"in": ["x", {"var": "tags"}]}]}, True, 'condition not ("x" in tags) -> true'),
        ({"sem_ver": [{"var": "v"}, ">=", "1.0"]}, True, 'condition version v >= "1.0" -> true'),
        ({"or": [{"and": [True, False]}, {"$ref": "b"}]}, True, "condition (true and false) or segment b -> true"),
    ],
)
def test_conditions_are_told_apart(one: Json, other: Json, expected: str) -> None:
    """Written as people say them, and as JSON where that would be the same."""
    assert [expected] == list(map(str, describe(Segment("s", one), Segment("s", other))))


def test_a_list_segment_is_counted() -> None:
    """A segment of keys may have thousands."""
    before, after = Segment("s", keys=("a", "b")), Segment("s", keys=("b", "c", "d"), key_attribute="email")

    assert ["keys: +2 -1", "attribute of keys targetingKey -> email"] == list(map(str, describe(before, after)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "Live"}, ['name "" -> "Live"']),
        ({"bucketing": Bucketing.V3}, ["units are dealt anew, bucketing v2 -> v3"]),
        ({"critical": True}, ["critical no -> yes"]),
        ({"sync": False}, ["sync to in-process clients yes -> no"]),
        ({"metadata": {"team": "a"}}, ['metadata team added: "a"']),
    ],
)
def test_an_environment_is_described(changes: Mapping[str, Scalar], expected: list[str]) -> None:
    """What belongs to the environment itself."""
    before = Environment("shop", "production")
    after = replace(before, **changes)  # type: ignore[arg-type]  # A mapping of mixed fields.

    assert expected == list(map(str, describe(before, after)))


def test_an_event_stands_alone() -> None:
    """Its lines name what they are about."""
    old, new = FlagDefinition(FLAG, CONFIG), FlagDefinition(FLAG, replace(CONFIG, enabled=False))
    live = Environment("shop", "live")

    assert ("flag new-ui: state on -> off",) == describe_event(FlagUpdated("new-ui", old, new))
    assert ("flag new-ui: created (boolean, on, default off, 3 rules)",) == describe_event(FlagCreated("new-ui", old))
    assert ("flag new-ui: removed",) == describe_event(FlagRemoved("new-ui", old))
    assert ("environment live: critical no -> yes",) == describe_event(
        EnvironmentUpdated("live", live, replace(live, critical=True))
    )


def test_nothing_at_all_is_no_difference() -> None:
    """Neither there before nor after."""
    assert () == describe(None, None)
    assert ('name "" -> "Shop"',) == tuple(map(str, describe(Project("shop"), Project("shop", "Shop"))))


def test_kinds_without_words_are_described_by_their_names() -> None:
    """Tokens, members and whatever comes are audited too."""
    before = {"role": "read", "expiresAt": None, "allowedFrom": {"lastAddress": "a"}}
    after = {"role": "edit", "expiresAt": None, "allowedFrom": {"lastAddress": "b"}, "owner": "ann"}

    assert [
        'role "read" -> "edit"',
        'allowed from last address "a" -> "b"',
        'owner none -> "ann"',
    ] == list(map(str, describe_documents("token", before, after)))


def test_long_values_are_cut_to_where_they_differ() -> None:
    """A line stays a line."""
    before, after = replace(FLAG, description="a" * 200 + "b"), replace(FLAG, description="a" * 200 + "c")
    (found,) = describe(FlagDefinition(before, CONFIG), FlagDefinition(after, CONFIG))

    assert f'description ...{"a" * 20}b" -> ...{"a" * 20}c"' == found.text


@pytest.mark.parametrize("damaged", [[], "x", 1, {"rules": 1, "targets": [], "variants": "x", "default": []}])
def test_a_damaged_document_is_described_too(damaged: Json) -> None:
    """History shows what is there, whoever wrote it."""
    sound = {"type": "boolean", "variants": {"on": True}, "rules": [{"id": "a", "serve": "on"}]}

    assert describe_documents("flag", sound, damaged)
    assert describe_documents("flag", damaged, sound)


def test_what_protects_an_environment_is_told() -> None:
    """As people set it: who must agree, and when nothing may change."""
    before = Environment("shop", "production")
    window = FreezeWindow(datetime(2026, 12, 20, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC), "Holidays")
    policy = ApprovalPolicy(2, (Role.APPROVE,), ("oidc:ann",), (Covered.FLAG,))
    after = replace(before, approval_policy=policy, freeze_windows=(window,))

    assert [
        "approval policy nobody is asked -> 2 approvals of approve, oidc:ann for every flag",
        "freeze windows: +1",
    ] == list(map(str, describe(before, after)))
    assert [] == list(describe(before, replace(after, approval_policy=ApprovalPolicy(), freeze_windows=())))
    one = replace(before, approval_policy=ApprovalPolicy(1, (Role.APPROVE,), (), (Covered.FLAG,)))
    assert ["approval policy nobody is asked -> 1 approval of approve for every flag"] == list(
        map(str, describe(before, one))
    )
