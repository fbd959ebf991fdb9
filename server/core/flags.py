"""A flag, its configuration in one environment, and the parts that both are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from server.core.json import Json, Scalar

TARGETING_KEY: Final = "targetingKey"
"""OpenFeature's name for the attribute that identifies the unit of evaluation."""


class ValueType(StrEnum):
    """The type that all variants of a flag share."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


class FlagKind(StrEnum):
    """Why a flag exists, which decides how long it should live."""

    RELEASE = "release"
    EXPERIMENT = "experiment"
    OPERATIONAL = "operational"
    PERMISSION = "permission"


class Outside(StrEnum):
    """What happens to a unit that matches a rule but is outside its share, or has no bucketing key."""

    NEXT = "next"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets which variant: weighted arms over a hash of salt and bucketing key.

    Shapes: weights (variant, weight >= 0) in written order, sum 1..WEIGHT_SUM_MAX.
    """

    weights: tuple[tuple[str, int], ...]
    salt: str
    bucket_by: str = TARGETING_KEY


@dataclass(frozen=True, slots=True)
class ShareStep:
    """How much a share is from an instant on. Units: as Share's."""

    at: datetime
    """Aware, and a whole second: flagd's clock knows no parts of one."""

    parts: int


@dataclass(frozen=True, slots=True)
class Share:
    """Who is let in: a part of all units, by a hash with a salt of its own.

    Units: parts of SHARE_PARTS (100,000), so 1 part is 0.001 %.
    """

    parts: int
    salt: str
    bucket_by: str = TARGETING_KEY
    steps: tuple[ShareStep, ...] = ()
    """What it becomes by the clock alone, the earliest first; every evaluator knows them beforehand."""

    def parts_at(self, now: float) -> int:
        """How much it is at an instant. Units: seconds since 1970, UTC."""
        return next((step.parts for step in reversed(self.steps) if step.at.timestamp() <= now), self.parts)


Serve: TypeAlias = str | Split
"""A variant's key, or a split among several."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Serve something to the units that meet a condition and are inside the share."""

    id: str
    serve: Serve
    condition: Json = None
    """JsonLogic; `{"$ref": key}` stands for a segment. None matches every unit."""

    share: Share | None = None
    """None lets in every unit, also one without a bucketing key."""

    outside: Outside = Outside.NEXT
    description: str = ""
    starts_at: datetime | None = None
    """From then on it is asked; before, as if it were not there. Aware, and a whole second, as `ends_at`."""

    ends_at: datetime | None = None
    """The first instant at which it is asked no more."""

    def is_asked_at(self, now: float) -> bool:
        """Whether it has begun and has not ended. Units: seconds since 1970, UTC."""
        begun = self.starts_at is None or self.starts_at.timestamp() <= now
        return begun and (self.ends_at is None or now < self.ends_at.timestamp())


@dataclass(frozen=True, slots=True)
class Target:
    """Individual units, by targeting key, that get a variant before any rule is asked."""

    variant: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """Another flag of the same environment that must serve one of these variants; else the off variant is served."""

    flag: str
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """What a flag is in every environment of its project."""

    key: str
    type: ValueType
    variants: Mapping[str, Json]
    description: str = ""
    kind: FlagKind = FlagKind.RELEASE
    temporary: bool = True
    expected_lifetime_days: int | None = None
    owner: str = ""
    tags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    archived_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FlagConfig:
    """How a flag behaves in one environment: either rules, or raw flagd targeting.

    `targeting` excludes `targets`, `prerequisites` and `rules`.
    """

    enabled: bool = True
    off_variant: str | None = None
    """Served while the flag is off or a prerequisite is not met; None means the caller's default."""

    targets: tuple[Target, ...] = ()
    prerequisites: tuple[Prerequisite, ...] = ()
    rules: tuple[Rule, ...] = ()
    default: Serve | None = None
    """Served when nothing else matched; None means the caller's default."""

    targeting: Json = None
    """Raw flagd targeting (JsonLogic with flagd's operators); `{"$ref": key}` stands for a segment."""

    lenient: bool = False
    """Accepted although flagd would warn about it; what is wrong shows as an error when it is reached."""


@dataclass(frozen=True, slots=True)
class FlagDefinition:
    """A flag together with its configuration in one environment: all that evaluation needs."""

    flag: Flag
    config: FlagConfig

    @property
    def key(self) -> str:
        """The flag's key."""
        return self.flag.key

    @property
    def is_on(self) -> bool:
        """Whether its rules are asked: an archived flag is off in every environment."""
        return self.config.enabled and self.flag.archived_at is None
