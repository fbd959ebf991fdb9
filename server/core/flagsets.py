"""A flag set: everything that evaluation needs to know of one environment, as stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.core.environments import Environment
from server.core.flags import FlagDefinition
from server.core.segments import Segment


@dataclass(frozen=True, slots=True)
class FlagSet:
    """The flags and segments of one environment, by key."""

    environment: Environment
    flags: Mapping[str, FlagDefinition] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
