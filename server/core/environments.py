"""Projects, their environments, and the name by which a client asks for one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from server.core.json import Scalar


class Bucketing(StrEnum):
    """How `fractional` turns a unit into a bucket; stored with the environment, never changed silently.

    Source: flagd ADRs high-precision-fractional-bucketing (V2) and fractional-non-string-rand-units (V3).
    """

    V2 = "v2"
    """MurmurHash3 x86-32 of the UTF-8 text; what flagd 0.16 and most providers speak."""

    V3 = "v3"
    """MurmurHash3 x86-32 of the value's canonical CBOR; what openfeature-flagd-core 2 speaks."""


@dataclass(frozen=True, slots=True)
class Project:
    """A team's or product's flags, in several environments."""

    key: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """One place where a project's flags have their own configuration and their own revisions."""

    project: str
    key: str
    name: str = ""
    bucketing: Bucketing = Bucketing.V2
    critical: bool = False
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    """Flag-set metadata; merged under each flag's own. `flagSetId` here is a further name of the set."""

    source: str = ""
    """Where the definitions were imported from; clients may select by `source=` as with flagd."""

    sync: bool = True
    """Whether the flags are sent to in-process clients too; the set must be small enough for them then."""

    @property
    def flag_set(self) -> str:
        """The flag set's name for OpenFeature clients, `<project>/<environment>`."""
        return f"{self.project}/{self.key}"
