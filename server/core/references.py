"""Find what a flag or a segment refers to: prerequisites, and segments by `$ref`."""

from typing import Literal, TypeAlias

from server.core.definitions.targeting import references as of_rule
from server.core.flags import FlagConfig, FlagDefinition
from server.core.segments import Segment

__all__ = ["Target", "of_config", "of_flag", "of_rule", "of_segment"]

Target: TypeAlias = tuple[Literal["flag", "segment"], str]
"""("flag", key) or ("segment", key)."""


def of_flag(definition: FlagDefinition) -> frozenset[Target]:
    """What a flag refers to directly."""
    return of_config(definition.config)


def of_config(config: FlagConfig) -> frozenset[Target]:
    """What a configuration refers to directly."""
    targets: set[Target] = {("flag", prerequisite.flag) for prerequisite in config.prerequisites}
    for rule in (config.targeting, *(rule.condition for rule in config.rules)):
        if rule is not None:
            targets.update(("segment", key) for key in of_rule(rule))
    return frozenset(targets)


def of_segment(segment: Segment) -> frozenset[Target]:
    """What a segment refers to directly."""
    return frozenset(("segment", key) for key in of_rule(segment.condition))
