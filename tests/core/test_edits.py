"""Edits of one part of a flag: what they do, and what they refuse."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from server.core.changes import apply, apply_all
from server.core.copies import CopyConfig
from server.core.edits import (
    AddRule,
    ArchiveFlag,
    FlagEdit,
    MoveRule,
    Position,
    RemoveRule,
    ReorderRules,
    ReplaceRule,
    RestoreFlag,
    SetDefault,
    SetEnabled,
    SetOffVariant,
    SetPrerequisites,
    SetTargets,
    SetVariants,
    UpdateConfig,
    UpdateFlag,
)
from server.core.environments import Environment
from server.core.errors import Conflict, InvalidDefinition, InvalidRequest, NotFound, Refused
from server.core.events import FlagCreated, FlagUpdated
from server.core.flags import (
    Flag,
    FlagConfig,
    FlagDefinition,
    Prerequisite,
    Rule,
    Share,
    Split,
    Target,
    ValueType,
)
from server.core.flagsets import FlagSet

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 2, 1, tzinfo=UTC)
A, B, C = Rule("a", "on"), Rule("b", "off"), Rule("c", "on")
FLAG = Flag("f", ValueType.BOOLEAN, {"on": True, "off": False}, owner="ann")
CONFIG = FlagConfig(
    rules=(A, B), targets=(Target("on", ("ann", "bob")), Target("off", ("eve",))), default="off", off_variant="off"
)


def config(change: FlagEdit, *, before: FlagConfig = CONFIG) -> FlagConfig:
    """The configuration of flag `f` after an edit."""
    return edited(change, FlagDefinition(FLAG, before)).config


def edited(change: FlagEdit, *flags: FlagDefinition) -> FlagDefinition:
    """Flag `f` after an edit; the first of `flags` is it."""
    flags = flags or (FlagDefinition(FLAG, CONFIG),)
    return apply(flag_set(*flags), change)[0].flags["f"]


def flag_set(*flags: FlagDefinition) -> FlagSet:
    """A set of these."""
    return FlagSet(Environment("shop", "production"), {each.key: each for each in flags})


def other(key: str = "g", **fields: Any) -> FlagDefinition:
    """Another flag, with some fields of its configuration."""
    return FlagDefinition(replace(FLAG, key=key), FlagConfig(**fields))


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        (SetEnabled("f", False), "enabled", False),
        (SetOffVariant("f", None), "off_variant", None),
        (SetDefault("f", "on"), "default", "on"),
        (SetPrerequisites("f", (Prerequisite("g", ("on",)),)), "prerequisites", (Prerequisite("g", ("on",)),)),
        (AddRule("f", C), "rules", (A, B, C)),
        (AddRule("f", C, Position(before="b")), "rules", (A, C, B)),
        (AddRule("f", C, Position(after="a")), "rules", (A, C, B)),
        (AddRule("f", C, Position(before="a")), "rules", (C, A, B)),
        (ReplaceRule("f", replace(A, serve="off")), "rules", (replace(A, serve="off"), B)),
        (RemoveRule("f", "a"), "rules", (B,)),
        (MoveRule("f", "a", Position()), "rules", (B, A)),
        (MoveRule("f", "b", Position(before="a")), "rules", (B, A)),
        (MoveRule("f", "a", Position(after="b")), "rules", (B, A)),
        (ReorderRules("f", ("b", "a")), "rules", (B, A)),
        (UpdateConfig("f", FlagConfig(rules=(C,), default="on"), ("rules",)), "rules", (C,)),
    ],
)
def test_an_edit_sets_what_it_names(change: FlagEdit, field: str, expected: Any) -> None:
    """And leaves everything else as it was."""
    after = config(change)

    assert expected == getattr(after, field)
    assert replace(CONFIG, **{field: expected}) == after


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (SetTargets("f", add=(Target("on", ("zoe",)),)), {"on": ("ann", "bob", "zoe"), "off": ("eve",)}),
        (SetTargets("f", add=(Target("off", ("ann",)),)), {"on": ("bob",), "off": ("eve", "ann")}),
        (SetTargets("f", add=(Target("on", ("bob", "bob")),)), {"on": ("ann", "bob"), "off": ("eve",)}),
        (SetTargets("f", remove=("eve", "nobody")), {"on": ("ann", "bob")}),
        (SetTargets("f", add=(Target("on", ("eve",)),), remove=("ann",)), {"on": ("bob", "eve")}),
    ],
)
def test_targets_come_and_go(change: SetTargets, expected: dict[str, tuple[str, ...]]) -> None:
    """One that is added leaves the variant that it had; one that stands there already keeps its place."""
    assert expected == {target.variant: target.keys for target in config(change).targets}


def test_shared_fields_are_set_by_name() -> None:
    """What is not named stays."""
    after = edited(UpdateFlag("f", replace(FLAG, owner="bob", tags=("x",), description="y"), ("owner", "tags")))

    assert replace(FLAG, owner="bob", tags=("x",)) == after.flag


def test_variants_are_added_changed_and_removed() -> None:
    """In the order in which they came."""
    after = edited(SetVariants("f", {"also": True, "on": False}, remove=("off",)))

    assert [("on", False), ("also", True)] == list(after.flag.variants.items())


def test_archiving_and_restoring_give_the_flag_back() -> None:
    """Archived again, it keeps its first instant; what it was configured to is there afterwards."""
    archived = edited(ArchiveFlag("f", NOW))
    again = edited(ArchiveFlag("f", LATER), archived)

    assert (NOW, False) == (again.flag.archived_at, again.is_on)
    assert FlagDefinition(FLAG, CONFIG) == edited(RestoreFlag("f"), again)


def test_salts_stay_unless_asked() -> None:
    """For a rule, a default and a whole configuration; `rerandomise` takes what it is given."""
    rule = Rule("a", "on", share=Share(10, "old"))
    stored = FlagConfig(rules=(rule,), default=Split((("on", 1), ("off", 1)), "old"))
    wider = replace(rule, share=Share(20, "f/a/share"))
    split = Split((("on", 3), ("off", 1)), "f/default/split")

    kept = replace(wider, share=Share(20, "old"))
    assert (kept,) == config(ReplaceRule("f", wider), before=stored).rules
    assert replace(split, salt="old") == config(SetDefault("f", split), before=stored).default
    assert (kept,) == config(UpdateConfig("f", FlagConfig(rules=(wider,)), ("rules",)), before=stored).rules
    assert (wider,) == config(ReplaceRule("f", wider, rerandomise=True), before=stored).rules
    with pytest.raises(InvalidDefinition, match="salt would change"):
        config(ReplaceRule("f", replace(rule, share=Share(20, "new"))), before=stored)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (SetEnabled("none", True), NotFound, "flag 'none' is not in 'shop/production'"),
        (AddRule("f", A), Conflict, "rule 'a' exists already in flag 'f'"),
        (AddRule("f", C, Position(before="z")), NotFound, "rule 'z' is not in flag 'f'; it has: 'a', 'b'"),
        (AddRule("f", C, Position("a", "b")), InvalidRequest, "say one of them"),
        (MoveRule("f", "a", Position(after="a")), InvalidRequest, "cannot stand beside itself"),
        (ReplaceRule("f", C), NotFound, "rule 'c' is not in flag 'f'"),
        (RemoveRule("f", "c"), NotFound, "rule 'c' is not in flag 'f'"),
        (ReorderRules("f", ("a",)), InvalidRequest, "names 'a', expected each of 'a', 'b' once"),
        (ReorderRules("f", ("a", "b", "a")), InvalidRequest, "expected each of"),
        (UpdateFlag("f", FLAG, ("type",)), InvalidRequest, "'type' cannot be updated"),
        (UpdateConfig("f", CONFIG, ("nonsense",)), InvalidRequest, "'nonsense' cannot be updated"),
        (SetVariants("f", remove=("none",)), NotFound, "no variant 'none'; it has: 'on', 'off'"),
        (SetVariants("f", {"on": True}, remove=("on",)), InvalidRequest, "to be put and taken away"),
    ],
)
def test_an_edit_may_be_refused(change: FlagEdit, error: type[Exception], message: str) -> None:
    """With the thing, and what is there."""
    with pytest.raises(error, match=message):
        edited(change)


def test_an_archived_flag_is_not_edited() -> None:
    """Only turning it off, which keeps it off when it is restored."""
    archived = FlagDefinition(replace(FLAG, archived_at=NOW), CONFIG)

    for change in (SetEnabled("f", True), AddRule("f", C), UpdateFlag("f", FLAG, ("owner",)), SetVariants("f")):
        with pytest.raises(Refused, match=r"flag 'f' is archived .* restore it first"):
            edited(change, archived)
    assert not edited(SetEnabled("f", False), archived).config.enabled


def test_a_flag_that_others_require_is_not_archived() -> None:
    """They are named; those that are archived themselves do not count."""
    needy = other("g", prerequisites=(Prerequisite("f", ("on",)),))
    with pytest.raises(Refused, match="flag 'f' cannot be archived: required by 'g'"):
        edited(ArchiveFlag("f", NOW), FlagDefinition(FLAG, CONFIG), needy)
    gone = replace(needy, flag=replace(needy.flag, archived_at=NOW))

    assert NOW == edited(ArchiveFlag("f", NOW), FlagDefinition(FLAG, CONFIG), gone).flag.archived_at


def test_an_archived_flag_gets_no_new_dependents() -> None:
    """One that required it before may still be edited."""
    archived = replace(other("g"), flag=replace(FLAG, key="g", archived_at=NOW))
    wanted = (Prerequisite("g", ("on",)),)
    change = SetPrerequisites("f", wanted)
    with pytest.raises(Refused, match="flag 'g' is archived"):
        edited(change, FlagDefinition(FLAG, CONFIG), archived)
    had = FlagDefinition(FLAG, replace(CONFIG, prerequisites=wanted))

    assert wanted == edited(change, had, archived).config.prerequisites


def test_a_copy_takes_the_configuration_and_leaves_the_rest() -> None:
    """Salts that are here stay, and so does what all environments share; on or off only where that is asked for."""
    here = FlagDefinition(FLAG, FlagConfig(enabled=False, rules=(Rule("a", "on", share=Share(1, "here")),)))
    there = FlagDefinition(replace(FLAG, owner="bob"), FlagConfig(rules=(Rule("a", "on", share=Share(9, "there")),)))
    whole, _ = apply(flag_set(here), CopyConfig(there))
    quiet, _ = apply(flag_set(here), CopyConfig(there, keep_enabled=True))

    rules = (Rule("a", "on", share=Share(9, "here")),)
    assert FlagDefinition(FLAG, FlagConfig(rules=rules)) == whole.flags["f"]
    assert FlagDefinition(FLAG, FlagConfig(enabled=False, rules=rules)) == quiet.flags["f"]


def test_a_copy_reshuffles_nobody_unasked() -> None:
    """Another attribute is refused, as for every edit; `rerandomise` takes it, and the salts beside it."""
    split = Split((("on", 1), ("off", 1)), "s", "company")
    here = FlagDefinition(FLAG, FlagConfig(rules=(Rule("a", "on", share=Share(1, "here")),), default=split))
    config = FlagConfig(
        rules=(Rule("a", "on", share=Share(9, "there", "company")),), default=replace(split, bucket_by="targetingKey")
    )
    there = FlagDefinition(FLAG, config)
    with pytest.raises(InvalidDefinition) as refused:
        apply(flag_set(here), CopyConfig(there))

    assert ["/flags/f/rules/0/share/bucketBy", "/flags/f/default/bucketBy"] == [
        problem.path for problem in refused.value.problems
    ]
    assert config == apply(flag_set(here), CopyConfig(there, rerandomise=True))[0].flags["f"].config


def test_a_copy_creates_what_is_not_there() -> None:
    """Off, where the state is to be kept: it had none."""
    there = FlagDefinition(FLAG, CONFIG)

    assert (FlagCreated("f", there),) == apply(flag_set(), CopyConfig(there))[1]
    assert not apply(flag_set(), CopyConfig(there, keep_enabled=True))[0].flags["f"].config.enabled


def test_a_copy_onto_an_archived_flag_is_refused() -> None:
    """As any edit of it."""
    archived = FlagDefinition(replace(FLAG, archived_at=NOW), CONFIG)
    with pytest.raises(Refused, match="is archived"):
        apply(flag_set(archived), CopyConfig(FlagDefinition(FLAG, CONFIG)))


def test_several_edits_are_one_event() -> None:
    """Each sees what the one before left."""
    before = FlagDefinition(FLAG, CONFIG)
    after, events = apply_all(flag_set(before), [AddRule("f", C), RemoveRule("f", "a"), SetEnabled("f", False)])

    assert (FlagUpdated("f", before, after.flags["f"]),) == events
    assert (B, C) == after.flags["f"].config.rules
