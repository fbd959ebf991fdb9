"""Changes: what they do, what they refuse, and what is said to have happened."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    DeleteEnvironment,
    DeleteProject,
    PutFlag,
    PutSegment,
    RemoveFlag,
    RemoveSegment,
    UpdateEnvironment,
    UpdateProject,
    apply,
    apply_all,
)
from server.core.environments import Bucketing, Environment, Project
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound, Refused, TooLarge
from server.core.events import (
    TYPES,
    EnvironmentCreated,
    EnvironmentDeleted,
    EnvironmentUpdated,
    FlagCreated,
    FlagRemoved,
    FlagUpdated,
    ProjectCreated,
    SegmentCreated,
    SegmentRemoved,
    SegmentUpdated,
)
from server.core.flags import (
    Flag,
    FlagConfig,
    FlagDefinition,
    Prerequisite,
    Rule,
    Serve,
    Share,
    Split,
    ValueType,
)
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.segments import Segment

HERE = Environment("shop", "production")
NOTHING = FlagSet(HERE)
BETA = Segment("beta", {"==": [{"var": "plan"}, "beta"]})


def flag(key: str = "a", *, rules: tuple[Rule, ...] = (), default: Serve = "off", requires: str = "") -> FlagDefinition:
    """A boolean flag."""
    prerequisites = (Prerequisite(requires, ("on",)),) if requires else ()
    config = FlagConfig(rules=rules, default=default, prerequisites=prerequisites)
    return FlagDefinition(Flag(key, ValueType.BOOLEAN, {"on": True, "off": False}), config)


def targeting(constant: Json) -> FlagDefinition:
    """A flag with raw targeting around a constant."""
    return replace(flag(), config=FlagConfig(targeting={"===": [{"var": "x"}, constant]}))


def holding(*flags: FlagDefinition, segments: tuple[Segment, ...] = ()) -> FlagSet:
    """A flag set with content."""
    return FlagSet(HERE, {each.key: each for each in flags}, {each.key: each for each in segments})


ON = flag(default="on")
OTHER_BETA = replace(BETA, description="early birds")


@pytest.mark.parametrize(
    ("before", "change", "after", "events"),
    [
        (NOTHING, PutFlag(flag()), holding(flag()), (FlagCreated("a", flag()),)),
        (holding(flag()), PutFlag(ON), holding(ON), (FlagUpdated("a", flag(), ON),)),
        (holding(flag()), PutFlag(flag()), holding(flag()), ()),
        (holding(flag()), RemoveFlag("a"), NOTHING, (FlagRemoved("a", flag()),)),
        (NOTHING, PutSegment(BETA), holding(segments=(BETA,)), (SegmentCreated("beta", BETA),)),
        (
            holding(segments=(BETA,)),
            PutSegment(OTHER_BETA),
            holding(segments=(OTHER_BETA,)),
            (SegmentUpdated("beta", BETA, OTHER_BETA),),
        ),
        (holding(segments=(BETA,)), RemoveSegment("beta"), NOTHING, (SegmentRemoved("beta", BETA),)),
        (NOTHING, CreateProject("shop", "Shop"), NOTHING, (ProjectCreated("shop", Project("shop", "Shop")),)),
        (NOTHING, CreateEnvironment(HERE), NOTHING, (EnvironmentCreated("production", HERE),)),
        (NOTHING, UpdateEnvironment(), NOTHING, ()),
        (
            NOTHING,
            UpdateEnvironment(bucketing=Bucketing.V3),
            FlagSet(replace(HERE, bucketing=Bucketing.V3)),
            (EnvironmentUpdated("production", HERE, replace(HERE, bucketing=Bucketing.V3)),),
        ),
    ],
)
def test_a_change_does_what_it_says(
    before: FlagSet, change: Change, after: FlagSet, events: tuple[object, ...]
) -> None:
    """The flag set afterwards, and what happened; nothing happens when it was so already."""
    assert (after, events) == apply(before, change)


def test_the_flag_set_before_is_not_edited() -> None:
    """Values are replaced, never changed."""
    before = holding(flag())
    apply(before, RemoveFlag("a"))

    assert holding(flag()) == before


def test_several_changes_are_one() -> None:
    """One event for each thing that differs in the end, in the order of the changes."""
    changes: list[Change] = [PutFlag(flag("b")), PutFlag(ON), PutFlag(flag("c")), RemoveFlag("c"), PutFlag(flag())]
    _, events = apply_all(holding(flag()), changes)

    assert (FlagCreated("b", flag("b")),) == events


def test_a_new_environment_may_be_set_at_once() -> None:
    """What is created is said as it is in the end."""
    named = replace(HERE, name="Live")
    _, events = apply_all(NOTHING, [CreateEnvironment(HERE), UpdateEnvironment(name="Live")])

    assert (EnvironmentCreated("production", named),) == events


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0, False)])
def test_what_only_python_takes_for_equal_is_a_change(before: Json, after: Json) -> None:
    """1, 1.0 and true are three values in JSON."""
    _, events = apply(holding(targeting(before)), PutFlag(targeting(after)))

    assert 1 == len(events)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (RemoveFlag("none"), NotFound, "flag 'none' is not in 'shop/production'"),
        (RemoveSegment("none"), NotFound, "segment 'none' is not in 'shop/production'"),
        (RemoveFlag("base"), Refused, "flag 'base' cannot be removed: flag 'top' would miss it"),
        (
            RemoveSegment("beta"),
            Refused,
            "segment 'beta' cannot be removed: flag 'top', segment 'vip' would miss it",
        ),
        (CreateProject("a/b"), InvalidRequest, "project key: 'a/b'"),
        (CreateEnvironment(Environment("shop", "")), InvalidRequest, "environment key: ''"),
        (UpdateEnvironment(metadata={"x": float("nan")}), InvalidRequest, "metadata 'x'"),
        (UpdateEnvironment(metadata={str(n): n for n in range(65)}), InvalidRequest, "65 metadata entries, at most 64"),
    ],
)
def test_a_change_may_be_refused(change: Change, error: type[Exception], message: str) -> None:
    """With the thing and the reason in words."""
    rule = Rule("r", "on", {"and": [{"$ref": "beta"}, True]})
    vip = Segment("vip", {"!": {"$ref": "beta"}})
    flag_set = holding(flag("base"), flag("top", requires="base", rules=(rule,)), segments=(BETA, vip))

    with pytest.raises(error, match=message):
        apply(flag_set, change)


def test_dependents_may_go_together() -> None:
    """In one commit the order does not matter."""
    flag_set = holding(flag("base"), flag("top", requires="base"))
    after, _ = apply_all(flag_set, [RemoveFlag("base"), RemoveFlag("top")])

    assert NOTHING == after


def shared(salt: str) -> FlagDefinition:
    """A flag whose rule `r` has a share."""
    return flag(rules=(Rule("r", "on", share=Share(5, salt)),))


def split(salt: str) -> FlagDefinition:
    """A flag whose rule `r` splits."""
    return flag(rules=(Rule("r", Split((("on", 1),), salt)),))


def default_split(salt: str) -> FlagDefinition:
    """A flag whose default splits."""
    return flag(default=Split((("on", 1),), salt))


SALTED = [
    (shared, "a/r/share", "/flags/a/rules/0/share/salt"),
    (split, "a/r/split", "/flags/a/rules/0/serve/salt"),
    (default_split, "a/default/split", "/flags/a/default/salt"),
]


@pytest.mark.parametrize(("make", "default_salt", "path"), SALTED)
def test_a_default_salt_keeps_the_stored_one(
    make: Callable[[str], FlagDefinition], default_salt: str, path: str
) -> None:
    """A definition that says nothing about salts moves nobody."""
    assert (holding(make("old")), ()) == apply(holding(make("old")), PutFlag(make(default_salt)))


@pytest.mark.parametrize(("make", "default_salt", "path"), SALTED)
def test_another_salt_is_refused(make: Callable[[str], FlagDefinition], default_salt: str, path: str) -> None:
    """Also when the stored salt is the default one; the problem has its path."""
    for old in ("old", default_salt):
        with pytest.raises(InvalidDefinition) as refused:
            apply(holding(make(old)), PutFlag(make("new")))
        assert [path] == [problem.path for problem in refused.value.problems]


@pytest.mark.parametrize(("make", "default_salt", "path"), SALTED)
def test_rerandomising_takes_the_given_salt(
    make: Callable[[str], FlagDefinition], default_salt: str, path: str
) -> None:
    """Who asks for it gets it, the default salt too."""
    for new in ("new", default_salt):
        after, _ = apply(holding(make("old")), PutFlag(make(new), rerandomise=True))
        assert holding(make(new)) == after


BY_COMPANY = [
    (flag(rules=(Rule("r", "on", share=Share(5, "s", "company")),)), shared("s"), "/flags/a/rules/0/share/bucketBy"),
    (flag(rules=(Rule("r", Split((("on", 1),), "s", "company")),)), split("s"), "/flags/a/rules/0/serve/bucketBy"),
    (flag(default=Split((("on", 1),), "s", "company")), default_split("s"), "/flags/a/default/bucketBy"),
]


@pytest.mark.parametrize(("by_company", "by_user", "path"), BY_COMPANY)
def test_another_attribute_to_bucket_by_is_refused(
    by_company: FlagDefinition, by_user: FlagDefinition, path: str
) -> None:
    """It moves units as another salt does, so it is asked for in the same way; leaving it out is a change, too."""
    for old, new in ((by_company, by_user), (by_user, by_company)):
        with pytest.raises(InvalidDefinition) as refused:
            apply(holding(old), PutFlag(new))
        assert [path] == [problem.path for problem in refused.value.problems]
        assert holding(new) == apply(holding(old), PutFlag(new, rerandomise=True))[0]


def test_a_new_rule_brings_its_salt() -> None:
    """Only rules with the same id are the same rule."""
    renamed = flag(rules=(Rule("other", "on", share=Share(5, "new")),))

    assert holding(renamed) == apply(holding(shared("old")), PutFlag(renamed))[0]


def test_a_rule_that_moves_keeps_its_salt() -> None:
    """Rules are known by id, not by place."""
    first = Rule("first", "off")
    moved = flag(rules=(first, Rule("r", "on", share=Share(7, "a/r/share"))))
    after, _ = apply(holding(shared("old")), PutFlag(moved))

    assert Rule("r", "on", share=Share(7, "old")) == after.flags["a"].config.rules[1]


def test_every_event_has_a_name_of_its_own() -> None:
    """Subscribers choose by type."""
    assert len(TYPES) == len({event_type.type for event_type in TYPES})


def test_a_deleted_environment_has_nothing_left() -> None:
    """One event says so; it is not one for each flag and segment."""
    before = FlagSet(HERE, {"a": flag()}, {"beta": BETA})
    after, events = apply(before, DeleteEnvironment())

    assert ((EnvironmentDeleted("production", HERE),), {}, {}) == (events, after.flags, after.segments)


@pytest.mark.parametrize("change", [UpdateProject(name="Shop"), DeleteProject()])
def test_a_project_is_not_changed_through_an_environment(change: Change) -> None:
    """Such a change belongs to no environment."""
    with pytest.raises(InvalidRequest, match="belongs to a project"):
        apply(NOTHING, change)


def test_an_environment_has_a_name_of_bounded_length() -> None:
    """As every other text."""
    with pytest.raises(TooLarge, match="the name of environment 'shop/production' has 4097 characters"):
        apply(NOTHING, UpdateEnvironment(name="n" * 4097))
