"""Edits of different parts of a flag do not undo each other, in whatever order they come."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from server.core.changes import Change, apply, apply_all
from server.core.edits import (
    AddRule,
    FlagEdit,
    MoveRule,
    Position,
    RemoveRule,
    ReorderRules,
    ReplaceRule,
    SetDefault,
    SetEnabled,
    SetOffVariant,
    SetTargets,
    SetVariants,
    UpdateFlag,
)
from server.core.environments import Environment
from server.core.flags import FlagDefinition, Rule, Target
from server.core.flagsets import FlagSet
from tests import strategies
from tests.laws.sizes import tried

SHOP = Environment("shop", "production")


@st.composite
def living_flags(draw: DrawFn) -> FlagDefinition:
    """A flag that may be edited."""
    definition = draw(strategies.flag_definitions())
    return replace(definition, flag=replace(definition.flag, archived_at=None))


def edits() -> SearchStrategy[FlagEdit]:
    """One of a few, each of a part of its own."""
    return st.one_of(
        st.builds(SetEnabled, st.just("flag"), st.booleans()),
        st.builds(SetOffVariant, st.just("flag"), st.sampled_from((None, "on", "off"))),
        st.builds(SetDefault, st.just("flag"), st.sampled_from((None, "on", "off"))),
        st.builds(SetVariants, st.just("flag"), st.just({"another": True})),
        st.builds(
            UpdateFlag,
            st.just("flag"),
            strategies.flag_parts(),
            st.sampled_from((("owner",), ("tags", "links"), ("description",))),
        ),
        st.builds(
            lambda key, variant: SetTargets("flag", add=(Target(variant, (key,)),)),
            st.sampled_from(("new-1", "new-2")),
            st.sampled_from(("on", "off")),
        ),
        st.builds(RemoveRule, st.just("flag"), st.sampled_from(("r0", "r1"))),
        st.builds(lambda name: ReplaceRule("flag", Rule(name, "off")), st.sampled_from(("r0", "r1"))),
    )


def part_of(edit: FlagEdit) -> object:
    """What an edit is about; two edits of one part may have to be made in order."""
    match edit:
        case UpdateFlag(_, _, fields):
            return fields
        case RemoveRule(_, rule_id):
            return rule_id
        case ReplaceRule(_, rule):
            return rule.id
        case SetTargets(_, add):
            return add[0].keys
    return type(edit)


def flag_set(definition: FlagDefinition) -> FlagSet:
    """A set of one."""
    return FlagSet(SHOP, {definition.key: definition})


def after(definition: FlagDefinition, *changes: Change) -> FlagDefinition:
    """The flag after some changes."""
    return apply_all(flag_set(definition), changes)[0].flags["flag"]


def unordered(definition: FlagDefinition) -> object:
    """What a flag says; whose target was added first says nothing."""
    targets = {target.variant: frozenset(target.keys) for target in definition.config.targets}
    return replace(definition, config=replace(definition.config, targets=())), targets


@tried(300, long=10_000)
@given(living_flags(), edits(), edits())
def test_edits_of_two_parts_may_come_in_any_order(definition: FlagDefinition, one: FlagEdit, two: FlagEdit) -> None:
    """Whoever is first, both are there."""
    assume(part_of(one) != part_of(two))
    had = {rule.id for rule in definition.config.rules}
    assume({name for name in ("r0", "r1") if name in (part_of(one), part_of(two))} <= had)

    assert unordered(after(definition, one, two)) == unordered(after(definition, two, one))


@tried(200, long=5_000)
@given(living_flags(), edits())
def test_an_edit_made_twice_is_made_once(definition: FlagDefinition, change: FlagEdit) -> None:
    """The second time nothing happens; what removes a rule has nothing left to remove."""
    had = {rule.id for rule in definition.config.rules}
    assume(not isinstance(change, RemoveRule) and (not isinstance(change, ReplaceRule) or change.rule.id in had))
    once = apply(flag_set(definition), change)[0]

    assert (once, ()) == apply(once, change)


@tried(200, long=5_000)
@given(living_flags(), st.data())
def test_rules_that_move_are_the_same_rules(definition: FlagDefinition, data: st.DataObject) -> None:
    """No order loses a rule, doubles one or changes one."""
    rules = definition.config.rules
    assume(rules)
    ids = [rule.id for rule in rules]
    moved = data.draw(st.sampled_from(ids))
    anchor = data.draw(st.sampled_from(["", *(each for each in ids if each != moved)]))
    order = tuple(data.draw(st.permutations(ids)))
    before = data.draw(st.booleans())
    position = Position(before=anchor) if before else Position(after=anchor)

    for change in (MoveRule("flag", moved, position), ReorderRules("flag", order)):
        assert sorted(map(repr, rules)) == sorted(map(repr, after(definition, change).config.rules))


@tried(200, long=5_000)
@given(living_flags(), st.integers(0, 3))
def test_a_rule_that_was_added_can_be_taken_away_again(definition: FlagDefinition, place: int) -> None:
    """And everything is as it was."""
    ids = [rule.id for rule in definition.config.rules]
    position = Position(before=ids[place]) if place < len(ids) else Position()
    added = after(definition, AddRule("flag", Rule("new", "on"), position))

    assert len(ids) + 1 == len(added.config.rules)
    assert definition == after(added, RemoveRule("flag", "new"))


@tried(200, long=5_000)
@given(living_flags(), st.lists(st.tuples(st.sampled_from(("on", "off")), st.sampled_from("abcd")), max_size=8))
def test_a_unit_is_a_target_once(definition: FlagDefinition, added: list[tuple[str, str]]) -> None:
    """Of the variant that it was added to last."""
    changes = [SetTargets("flag", add=(Target(variant, (key,)),)) for variant, key in added]
    targets = after(definition, *changes).config.targets
    found = {(target.variant, key) for target in targets for key in target.keys}

    assert len({key for _, key in found}) == len(found)
    assert {key: variant for variant, key in added}.items() <= {key: variant for variant, key in found}.items()
