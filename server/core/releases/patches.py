"""Turn a move of a release into edits of its flags as they stand now.

A step forward sets what its patches name and leaves everything else alone, and it takes no unit out that somebody let
in by hand meanwhile. A way back sets all that the plan touches, and nothing beside it, to what it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias, assert_never

from server.core.change_requests.codec import Content, Proposed
from server.core.changes import Change
from server.core.edits import (
    AddRule,
    FlagEdit,
    Position,
    RemoveRule,
    ReplaceRule,
    SetDefault,
    SetEnabled,
    SetPrerequisites,
    SetVariants,
)
from server.core.errors import NotFound
from server.core.flags import FlagConfig, FlagDefinition, Rule, Serve, Share, Split
from server.core.limits import SHARE_PARTS
from server.core.releases.foretelling import Foresight, foretold
from server.core.releases.plan import Patch, Plan, Subject
from server.core.releases.walking import Direction, Move

Definitions: TypeAlias = Mapping[Subject, FlagDefinition]

NO_DEFINITIONS: Final[Definitions] = {}


def content_of_move(
    plan: Plan, move: Move, *, anchors: Definitions, current: Definitions, was_off: bool, sight: Foresight
) -> Content:
    """The edits of a move, by environment; nothing for an environment where all is so already.

    `anchors` are the flags as they were before the release, `current` as they are; `sight` is what the clock is to make
    of them after the move. Errors: NotFound for a flag or a
    rule that a step forward needs and that is gone.
    """
    edits: dict[str, list[Change]] = {}
    for subject in plan.subjects():
        found = current.get(subject)
        if found is None:
            if move.direction is Direction.FORWARD:
                raise NotFound(f"flag {subject[1]!r} is not in {subject[0]!r} any more")
            continue
        wanted, variants = _wanted(plan, move, found, anchors.get(subject, found), subject, was_off=was_off)
        back = move.direction is Direction.SET
        wanted = foretold(wanted, found.config, plan, subject, sight, going_back=back)
        edits.setdefault(subject[0], []).extend(_edits(found, wanted, variants))
    return Content(tuple(Proposed(environment, tuple(each)) for environment, each in edits.items() if each))


def narrowed(plan: Plan, current: Definitions) -> Iterator[str]:
    """Which shares the first step would make smaller, or would move beside their own clock."""
    for patch in plan.steps[0].patches:
        found = current.get((patch.environment, patch.flag))
        rule = None if found is None else _find(found.config, patch.rule)
        if patch.share_parts is None or rule is None:
            continue
        if rule.share is not None and rule.share.steps:
            yield (
                f"rule {patch.rule!r} of flag {patch.flag!r} in {patch.environment!r} has a share that grows by the "
                "clock; take its steps away first, or leave it to them"
            )
        parts = SHARE_PARTS if rule.share is None else rule.share.parts
        if parts > patch.share_parts:
            yield (
                f"rule {patch.rule!r} of flag {patch.flag!r} in {patch.environment!r} lets in {parts / 1000:g} % now, "
                f"and the first step {patch.share_parts / 1000:g} %; a release only adds units: begin at "
                f"{parts / 1000:g} %, or set the share to what it should begin with first"
            )


def _wanted(
    plan: Plan, move: Move, found: FlagDefinition, anchor: FlagDefinition, subject: Subject, *, was_off: bool
) -> tuple[FlagConfig, Mapping[str, object]]:
    own = [each for each in plan.patches() if (each.environment, each.flag) == subject]
    match move.direction:
        case Direction.OFF:
            return replace(found.config, enabled=False), {}
        case Direction.FORWARD:
            steps = plan.steps[move.from_step + 1 : move.to_step + 1]
            config, widening = found.config, True
        case Direction.SET:
            steps = plan.steps[: move.to_step + 1]
            config, widening = _restored(found.config, anchor.config, own, was_off=was_off), False
        case _:
            assert_never(move.direction)
    variants: dict[str, object] = {}
    for step in steps:
        for patch in step.patches:
            if (patch.environment, patch.flag) == subject:
                config = _patched(config, patch, anchor.config, widening=widening)
                variants.update(patch.variants)
    return config, {name: value for name, value in variants.items() if name not in found.flag.variants}


def _patched(config: FlagConfig, patch: Patch, anchor: FlagConfig, *, widening: bool) -> FlagConfig:
    if patch.add_rule is not None and _find(config, patch.add_rule.id) is None:
        added = patch.add_rule
        config = replace(config, rules=(added, *config.rules) if patch.add_first else (*config.rules, added))
    if patch.remove_rule:
        config = replace(config, rules=tuple(each for each in config.rules if each.id != patch.remove_rule))
    if patch.rule:
        config = _with_rule(config, patch.rule, lambda rule: _patched_rule(rule, patch, anchor, widening=widening))
    elif patch.serve is not None:
        config = replace(config, default=_salted(patch.serve, config.default, anchor.default))
    if patch.prerequisites is not None:
        config = replace(config, prerequisites=patch.prerequisites)
    return config if patch.enabled is None else replace(config, enabled=patch.enabled)


def _patched_rule(rule: Rule, patch: Patch, anchor: FlagConfig, *, widening: bool) -> Rule:
    before = _find(anchor, rule.id)
    parts = patch.share_parts
    if parts is not None and not (widening and rule.share is None and before is not None):
        rule = replace(rule, share=_share(rule, before, parts, patch.flag, widening=widening))
    if patch.serve is not None:
        rule = replace(rule, serve=_salted(patch.serve, rule.serve, None if before is None else before.serve))
    return replace(rule, condition=patch.condition) if patch.sets_condition else rule


def _share(rule: Rule, before: Rule | None, parts: int, flag: str, *, widening: bool) -> Share:
    """A share with the salt that it has, or had, or else that of its place."""
    if rule.share is not None:
        return replace(rule.share, parts=max(parts, rule.share.parts) if widening else parts)
    if before is not None and before.share is not None:
        return replace(before.share, parts=parts)
    return Share(parts, f"{flag}/{rule.id}/share")


def _salted(serve: Serve, *had: Serve | None) -> Serve:
    """A split with the salt that its place had, now or before: it decides who gets what."""
    if isinstance(serve, Split):
        for each in had:
            if isinstance(each, Split):
                return replace(serve, salt=each.salt)
    return serve


def _restored(config: FlagConfig, anchor: FlagConfig, own: Sequence[Patch], *, was_off: bool) -> FlagConfig:
    """What the plan touches as it was before; what somebody took away by hand stays away."""
    for patch in own:
        added = patch.add_rule
        if added is not None and _find(anchor, added.id) is None:
            config = replace(config, rules=tuple(each for each in config.rules if each.id != added.id))
        gone = _find(anchor, patch.remove_rule)
        if gone is not None and _find(config, gone.id) is None:
            config = replace(config, rules=_put_back(config.rules, anchor.rules, gone))
        before = _find(anchor, patch.rule)
        if before is not None and _find(config, patch.rule) is not None:
            config = _with_rule(config, patch.rule, partial(_back, patch, before))
        if patch.serve is not None and not patch.rule:
            config = replace(config, default=anchor.default)
        if patch.prerequisites is not None:
            config = replace(config, prerequisites=anchor.prerequisites)
        if patch.enabled is not None:
            config = replace(config, enabled=anchor.enabled)
    return replace(config, enabled=anchor.enabled) if was_off else config


def _back(patch: Patch, before: Rule, rule: Rule) -> Rule:
    if patch.share_parts is not None:
        rule = replace(rule, share=before.share)
    if patch.serve is not None:
        rule = replace(rule, serve=before.serve)
    return replace(rule, condition=before.condition) if patch.sets_condition else rule


def _put_back(rules: Sequence[Rule], order: Sequence[Rule], gone: Rule) -> tuple[Rule, ...]:
    """A rule where it was: behind the nearest of those that stood before it."""
    before = [each.id for each in order[: [each.id for each in order].index(gone.id)]]
    place = max((index + 1 for index, each in enumerate(rules) if each.id in before), default=0)
    return (*rules[:place], gone, *rules[place:])


def _find(config: FlagConfig, rule_id: str) -> Rule | None:
    return next((each for each in config.rules if each.id == rule_id), None) if rule_id else None


def _with_rule(config: FlagConfig, rule_id: str, changed: Callable[[Rule], Rule]) -> FlagConfig:
    if _find(config, rule_id) is None:
        known = ", ".join(each.id for each in config.rules) or "none"
        raise NotFound(f"there is no rule {rule_id!r}; the flag has: {known}")
    return replace(config, rules=tuple(changed(each) if each.id == rule_id else each for each in config.rules))


def _edits(found: FlagDefinition, wanted: FlagConfig, variants: Mapping[str, object]) -> Iterator[FlagEdit]:
    """What leads from a flag to the wanted configuration, part by part: nobody else's work is undone by it."""
    key, had = found.key, found.config
    if variants:
        yield SetVariants(key, put=variants)
    for index, rule in enumerate(wanted.rules):
        before = _find(had, rule.id)
        if before is None:
            follows = wanted.rules[index - 1].id if index else ""
            first = next((each.id for each in had.rules), "") if not index else ""
            yield AddRule(key, rule, Position(before=first, after=follows))
        elif before != rule:
            yield ReplaceRule(key, rule)
    if not _same(had.default, wanted.default):
        yield SetDefault(key, wanted.default)
    if had.prerequisites != wanted.prerequisites:
        yield SetPrerequisites(key, wanted.prerequisites)
    if had.enabled != wanted.enabled:
        yield SetEnabled(key, wanted.enabled)
    for rule in had.rules:
        if _find(wanted, rule.id) is None:
            yield RemoveRule(key, rule.id)


def _same(one: Serve | None, other: Serve | None) -> bool:
    return one == other
