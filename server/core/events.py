"""Name what happened: the past tense of every change, with the thing before and after it.

A committed event becomes an audit entry, a revision and an announcement; `type` and `kind` are its public names.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from server.core.environments import Environment, Project
from server.core.flags import FlagDefinition
from server.core.segments import Segment

SubjectKind: TypeAlias = Literal["project", "environment", "flag", "segment"]


@dataclass(frozen=True, slots=True)
class ProjectCreated:
    """A project came to be."""

    type: ClassVar = "project.created"
    kind: ClassVar[SubjectKind] = "project"
    before: ClassVar[None] = None
    key: str
    after: Project


@dataclass(frozen=True, slots=True)
class ProjectUpdated:
    """A project is called or described differently."""

    type: ClassVar = "project.updated"
    kind: ClassVar[SubjectKind] = "project"
    key: str
    before: Project
    after: Project


@dataclass(frozen=True, slots=True)
class ProjectDeleted:
    """A project is gone, after its environments; its audit trail stays."""

    type: ClassVar = "project.deleted"
    kind: ClassVar[SubjectKind] = "project"
    after: ClassVar[None] = None
    key: str
    before: Project


@dataclass(frozen=True, slots=True)
class EnvironmentCreated:
    """An environment came to be, empty."""

    type: ClassVar = "environment.created"
    kind: ClassVar[SubjectKind] = "environment"
    before: ClassVar[None] = None
    key: str
    after: Environment


@dataclass(frozen=True, slots=True)
class EnvironmentUpdated:
    """What belongs to the environment itself changed; its flags did not."""

    type: ClassVar = "environment.updated"
    kind: ClassVar[SubjectKind] = "environment"
    key: str
    before: Environment
    after: Environment


@dataclass(frozen=True, slots=True)
class EnvironmentDeleted:
    """An environment is gone with all flags and segments that it had; its revisions and its audit trail stay."""

    type: ClassVar = "environment.deleted"
    kind: ClassVar[SubjectKind] = "environment"
    after: ClassVar[None] = None
    key: str
    before: Environment


@dataclass(frozen=True, slots=True)
class FlagCreated:
    """A flag got a configuration in this environment for the first time."""

    type: ClassVar = "flag.created"
    kind: ClassVar[SubjectKind] = "flag"
    before: ClassVar[None] = None
    key: str
    after: FlagDefinition


@dataclass(frozen=True, slots=True)
class FlagUpdated:
    """A flag, or its configuration in this environment, is not what it was."""

    type: ClassVar = "flag.updated"
    kind: ClassVar[SubjectKind] = "flag"
    key: str
    before: FlagDefinition
    after: FlagDefinition


@dataclass(frozen=True, slots=True)
class FlagRemoved:
    """A flag is gone from this environment."""

    type: ClassVar = "flag.removed"
    kind: ClassVar[SubjectKind] = "flag"
    after: ClassVar[None] = None
    key: str
    before: FlagDefinition


@dataclass(frozen=True, slots=True)
class SegmentCreated:
    """A segment came to be."""

    type: ClassVar = "segment.created"
    kind: ClassVar[SubjectKind] = "segment"
    before: ClassVar[None] = None
    key: str
    after: Segment


@dataclass(frozen=True, slots=True)
class SegmentUpdated:
    """A segment has other members now."""

    type: ClassVar = "segment.updated"
    kind: ClassVar[SubjectKind] = "segment"
    key: str
    before: Segment
    after: Segment


@dataclass(frozen=True, slots=True)
class SegmentRemoved:
    """A segment is gone."""

    type: ClassVar = "segment.removed"
    kind: ClassVar[SubjectKind] = "segment"
    after: ClassVar[None] = None
    key: str
    before: Segment


ProjectEvent: TypeAlias = ProjectCreated | ProjectUpdated | ProjectDeleted
EnvironmentEvent: TypeAlias = (
    EnvironmentCreated
    | EnvironmentUpdated
    | EnvironmentDeleted
    | FlagCreated
    | FlagUpdated
    | FlagRemoved
    | SegmentCreated
    | SegmentUpdated
    | SegmentRemoved
)
Event: TypeAlias = ProjectEvent | EnvironmentEvent

TYPES: Final = (
    ProjectCreated,
    ProjectUpdated,
    ProjectDeleted,
    EnvironmentCreated,
    EnvironmentUpdated,
    EnvironmentDeleted,
    FlagCreated,
    FlagUpdated,
    FlagRemoved,
    SegmentCreated,
    SegmentUpdated,
    SegmentRemoved,
)
"""All kinds of events, for lists of what a subscriber may ask for."""
