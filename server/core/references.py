"""Find what a flag or a segment refers to: prerequisites, and segments by `$ref`."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from server.core.flags import FlagDefinition
from server.core.json import Json
from server.core.segments import Segment

Target: TypeAlias = tuple[Literal["flag", "segment"], str]
"""("flag", key) or ("segment", key)."""


def of_flag(definition: FlagDefinition) -> frozenset[Target]:
    """What a flag refers to directly."""
    config = definition.config
    targets: set[Target] = {("flag", prerequisite.flag) for prerequisite in config.prerequisites}
    for rule in config.rules:
        targets.update(("segment", key) for key in _segments(rule.condition))
    targets.update(("segment", key) for key in _segments(config.targeting))
    return frozenset(targets)


def of_segment(segment: Segment) -> frozenset[Target]:
    """What a segment refers to directly."""
    return frozenset(("segment", key) for key in _segments(segment.condition))


def of_rule(rule: Json) -> frozenset[str]:
    """Keys of the segments that a rule refers to directly."""
    return frozenset(_segments(rule))


def _segments(rule: Json) -> Iterator[str]:
    # A list of what is still to be seen, not recursion: stored rules may be deeper than the stack.
    waiting = [rule]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            key = node.get("$ref")
            if isinstance(key, str):
                yield key
            waiting.extend(node.values())
        elif isinstance(node, list | tuple):
            waiting.extend(node)
