"""Projects, their environments, and the name by which a client asks for one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.core.access import Role
from server.core.json import Scalar


class Bucketing(StrEnum):
    """How `fractional` turns a unit into a bucket; stored with the environment, never changed silently.

    Source: flagd ADRs high-precision-fractional-bucketing (V2) and fractional-non-string-rand-units (V3).
    """

    V2 = "v2"
    """MurmurHash3 x86-32 of the UTF-8 text; what flagd 0.16 and most providers speak."""

    V3 = "v3"
    """MurmurHash3 x86-32 of the value's canonical CBOR; what openfeature-flagd-core 2 speaks."""


class Covered(StrEnum):
    """What of an environment an approval policy watches over; the kinds of its events."""

    FLAG = "flag"
    SEGMENT = "segment"
    ENVIRONMENT = "environment"
    """Its settings, this policy among them."""


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """How many people must agree before something changes; who asks for the change is never one of them.

    A kill passes without approvals, whatever is covered.
    """

    approvals: int = 0
    """0: nobody is asked."""

    roles: tuple[Role, ...] = ()
    """Who counts, by role, among those who may approve at all; together with `actors`. Both empty: all of them."""

    actors: tuple[str, ...] = ()
    """Who counts by name, as the audit trail names them, such as `oidc:ann`; they too must be allowed to approve."""

    covers: tuple[Covered, ...] = tuple(Covered)


NO_APPROVALS: Final = ApprovalPolicy()


@dataclass(frozen=True, slots=True)
class FreezeWindow:
    """A time in which an environment stays as it is, but for kills."""

    starts_at: datetime
    ends_at: datetime
    """The first instant that is free again."""

    reason: str
    roles: tuple[Role, ...] = ()
    """Who may change things all the same, by role."""

    actors: tuple[str, ...] = ()
    """Who may change things all the same, by name."""


@dataclass(frozen=True, slots=True)
class Project:
    """A team's or product's flags, in several environments."""

    key: str
    name: str = ""
    description: str = ""


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

    approval_policy: ApprovalPolicy = NO_APPROVALS
    freeze_windows: tuple[FreezeWindow, ...] = ()

    @property
    def flag_set(self) -> str:
        """The flag set's name for OpenFeature clients, `<project>/<environment>`."""
        return f"{self.project}/{self.key}"
