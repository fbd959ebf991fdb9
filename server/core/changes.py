"""Apply typed changes to a flag set; the only way anything moves.

Deciding is pure: what comes out are the flag set afterwards and the events that say what differs. Whether the result
is sound as a whole is `core/definitions/flagsets.py`'s question, asked once by the commit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, assert_never

from server.core import references
from server.core.copies import CopyConfig, copied
from server.core.definitions.places import check_environment, check_name, check_project
from server.core.edits import FlagEdit, edit
from server.core.environments import ApprovalPolicy, Bucketing, Environment, FreezeWindow, Project
from server.core.errors import InvalidDefinition, InvalidRequest, NotFound, Problem, Refused
from server.core.events import (
    EnvironmentCreated,
    EnvironmentDeleted,
    EnvironmentUpdated,
    Event,
    FlagCreated,
    FlagRemoved,
    FlagUpdated,
    ProjectCreated,
    SegmentCreated,
    SegmentRemoved,
    SegmentUpdated,
)
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.core.json import Scalar
from server.core.keylists import KeyList
from server.core.salts import keep_salts
from server.core.segments import Segment, add_keys, refuse_unknown_keys, remove_keys

DEPENDENTS_SHOWN_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class CreateProject:
    """Begin a project without environments."""

    key: str
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class UpdateProject:
    """Set what is given; None leaves as it is."""

    name: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteProject:
    """Take a project away that has no environments any more; who did what in it stays known."""


@dataclass(frozen=True, slots=True)
class CreateEnvironment:
    """Begin an environment without flags."""

    environment: Environment


@dataclass(frozen=True, slots=True)
class UpdateEnvironment:
    """Set what is given; None leaves as it is."""

    name: str | None = None
    bucketing: Bucketing | None = None
    critical: bool | None = None
    metadata: Mapping[str, Scalar] | None = None
    source: str | None = None
    sync: bool | None = None
    approval_policy: ApprovalPolicy | None = None
    """One of no approvals asks nobody."""

    freeze_windows: tuple[FreezeWindow, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeleteEnvironment:
    """Take an environment away with all that it has; the only change of its commit there."""


@dataclass(frozen=True, slots=True)
class PutFlag:
    """Create a flag or replace it whole, in this environment.

    What the rules that exist hash stays: it decides who is in. `rerandomise` allows the definition to bring others.
    """

    definition: FlagDefinition
    rerandomise: bool = False


@dataclass(frozen=True, slots=True)
class RemoveFlag:
    """Take a flag out of this environment; refused while another flag requires it."""

    key: str


@dataclass(frozen=True, slots=True)
class PutSegment:
    """Create a segment or replace it whole."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class RemoveSegment:
    """Take a segment away; refused while a flag or segment refers to it."""

    key: str


@dataclass(frozen=True, slots=True)
class AddSegmentKeys:
    """Add to a segment's list of keys; those that are in it already change nothing."""

    key: str
    keys: KeyList


@dataclass(frozen=True, slots=True)
class RemoveSegmentKeys:
    """Take from a segment's list of keys; those that are not in it change nothing."""

    key: str
    keys: KeyList


ProjectChange: TypeAlias = CreateProject | UpdateProject | DeleteProject
KeysChange: TypeAlias = AddSegmentKeys | RemoveSegmentKeys
DefinitionChange: TypeAlias = PutFlag | CopyConfig | FlagEdit | RemoveFlag | PutSegment | RemoveSegment | KeysChange
Change: TypeAlias = ProjectChange | CreateEnvironment | UpdateEnvironment | DeleteEnvironment | DefinitionChange


def apply(flag_set: FlagSet, change: Change) -> tuple[FlagSet, tuple[Event, ...]]:
    """Make one change; a change to what is there already gives no event.

    Errors: NotFound when there is nothing to remove or edit; Refused when others depend on what would go;
    InvalidRequest when a name is not allowed; InvalidDefinition when salts would change.
    """
    return apply_all(flag_set, (change,))


def apply_all(flag_set: FlagSet, changes: Sequence[Change]) -> tuple[FlagSet, tuple[Event, ...]]:
    """Make several changes as one: one event for each thing that differs in the end. Errors: as `apply`."""
    preview = preview_all(flag_set, changes)
    preview.raise_if_refused()
    return preview.flag_set, preview.events


@dataclass(frozen=True, slots=True)
class Preview:
    """What changes come to, whether they are allowed or not."""

    flag_set: FlagSet
    events: tuple[Event, ...]
    problems: tuple[Problem, ...]
    """Salts that would change."""

    orphans: Mapping[references.Target, tuple[references.Target, ...]]
    """What would go -> who would miss it."""

    def raise_if_refused(self) -> None:
        """Errors: InvalidDefinition when salts would change, Refused when others depend on what would go."""
        if self.problems:
            raise InvalidDefinition(self.problems)
        if self.orphans:
            raise Refused("\n".join(_orphaned(*each) for each in sorted(self.orphans.items())))


def preview_all(flag_set: FlagSet, changes: Sequence[Change]) -> Preview:
    """What several changes come to as one. Errors: NotFound and InvalidRequest for what cannot even be tried."""
    draft = _Draft(flag_set.environment, dict(flag_set.flags), dict(flag_set.segments))
    for change in changes:
        _edit(draft, change)
    changed = FlagSet(draft.environment, draft.flags, draft.segments)
    events = tuple(_events(flag_set, changed, draft))
    return Preview(changed, events, tuple(draft.problems), _orphans(changed, events))


@dataclass(slots=True)
class _Draft:
    environment: Environment
    flags: dict[str, FlagDefinition]
    segments: dict[str, Segment]
    projects: list[Project] = field(default_factory=list)
    is_new: bool = False
    is_deleted: bool = False
    touched: dict[references.Target, None] = field(default_factory=dict)
    """In the order of the changes; events keep it."""

    problems: list[Problem] = field(default_factory=list)


def _edit(draft: _Draft, change: Change) -> None:
    match change:
        case CreateProject():
            draft.projects.append(new_project(change))
        case UpdateProject() | DeleteProject():
            raise InvalidRequest(f"{type(change).__name__} belongs to a project, not to one of its environments")
        case CreateEnvironment(environment):
            check_environment(environment)
            draft.environment, draft.is_new = environment, True
        case UpdateEnvironment():
            draft.environment = _updated(draft.environment, change)
            check_environment(draft.environment)
        case DeleteEnvironment():
            _refuse_critical(draft.environment)
            draft.flags.clear()
            draft.segments.clear()
            draft.is_deleted = True
        case _:
            _edit_definitions(draft, change)


def _edit_definitions(draft: _Draft, change: DefinitionChange) -> None:
    if isinstance(change, FlagEdit):
        _edit_flag(draft, change)
        return
    match change:
        case PutFlag():
            _put_flag(draft, change)
        case CopyConfig():
            definition, problems = copied(draft.flags.get(change.definition.key), change)
            draft.problems.extend(problems)
            _take(draft, definition)
        case RemoveFlag(key):
            if draft.flags.pop(key, None) is None:
                raise NotFound(f"flag {key!r} is not in {draft.environment.flag_set!r}, so it cannot be removed")
            draft.touched["flag", key] = None
        case PutSegment(segment):
            refuse_unknown_keys(segment, draft.segments.get(segment.key))
            draft.segments[segment.key] = segment
            draft.touched["segment", segment.key] = None
        case RemoveSegment(key):
            if draft.segments.pop(key, None) is None:
                raise NotFound(f"segment {key!r} is not in {draft.environment.flag_set!r}, so it cannot be removed")
            draft.touched["segment", key] = None
        case AddSegmentKeys(key, keys):
            draft.segments[key] = add_keys(_segment_of(draft, key), keys)
            draft.touched["segment", key] = None
        case RemoveSegmentKeys(key, keys):
            draft.segments[key] = remove_keys(_segment_of(draft, key), keys)
            draft.touched["segment", key] = None
        case _:
            assert_never(change)


def _edit_flag(draft: _Draft, change: FlagEdit) -> None:
    stored = draft.flags.get(change.key)
    if stored is None:
        raise NotFound(f"flag {change.key!r} is not in {draft.environment.flag_set!r}")
    edited, problems = edit(stored, change, flags=draft.flags)
    draft.problems.extend(problems)
    _take(draft, edited)


def _put_flag(draft: _Draft, change: PutFlag) -> None:
    definition = change.definition
    stored = draft.flags.get(definition.key)
    if stored is not None and not change.rerandomise:
        definition, problems = keep_salts(stored, definition)
        draft.problems.extend(problems)
    _take(draft, definition)


def _take(draft: _Draft, definition: FlagDefinition) -> None:
    draft.flags[definition.key] = definition
    draft.touched["flag", definition.key] = None


def _refuse_critical(environment: Environment) -> None:
    if environment.critical:
        raise Refused(
            f"environment {environment.flag_set!r} is critical and cannot be deleted; say first that it is not"
        )


def _segment_of(draft: _Draft, key: str) -> Segment:
    segment = draft.segments.get(key)
    if segment is None:
        raise NotFound(f"segment {key!r} is not in {draft.environment.flag_set!r}; create it first")
    return segment


def _updated(environment: Environment, change: UpdateEnvironment) -> Environment:
    given: dict[str, Any] = {
        "name": change.name,
        "bucketing": change.bucketing,
        "critical": change.critical,
        "metadata": change.metadata,
        "source": change.source,
        "sync": change.sync,
        "approval_policy": change.approval_policy,
        "freeze_windows": change.freeze_windows,
    }
    return replace(environment, **{name: value for name, value in given.items() if value is not None})


def new_project(change: CreateProject) -> Project:
    """The project that a change creates. Errors: InvalidRequest, TooLarge."""
    check_name("project", change.key)
    project = Project(change.key, change.name, change.description)
    check_project(project)
    return project


def _events(before: FlagSet, after: FlagSet, draft: _Draft) -> Iterator[Event]:
    for project in draft.projects:
        yield ProjectCreated(project.key, project)
    if draft.is_deleted:
        yield EnvironmentDeleted(before.environment.key, before.environment)
    elif draft.is_new:
        yield EnvironmentCreated(after.environment.key, after.environment)
    elif not _same(before.environment, after.environment):
        yield EnvironmentUpdated(after.environment.key, before.environment, after.environment)
    for kind, key in draft.touched:
        event = (
            _flag_event(key, before.flags.get(key), after.flags.get(key))
            if kind == "flag"
            else _segment_event(key, before.segments.get(key), after.segments.get(key))
        )
        if event is not None:
            yield event


def _flag_event(key: str, before: FlagDefinition | None, after: FlagDefinition | None) -> Event | None:
    if before is None:
        return None if after is None else FlagCreated(key, after)
    if after is None:
        return FlagRemoved(key, before)
    return None if _same(before, after) else FlagUpdated(key, before, after)


def _segment_event(key: str, before: Segment | None, after: Segment | None) -> Event | None:
    if before is None:
        return None if after is None else SegmentCreated(key, after)
    if after is None:
        return SegmentRemoved(key, before)
    return None if _same(before, after) else SegmentUpdated(key, before, after)


def _same(before: object, after: object) -> bool:
    # repr tells 1 from true and from 1.0, and one order of entries from another, which `==` does not.
    return before == after and repr(before) == repr(after)


def _orphans(flag_set: FlagSet, events: Sequence[Event]) -> dict[references.Target, tuple[references.Target, ...]]:
    gone = {(event.kind, event.key) for event in events if isinstance(event, FlagRemoved | SegmentRemoved)}
    if not gone:
        return {}
    dependents: dict[references.Target, list[references.Target]] = {}
    for key, definition in flag_set.flags.items():
        for target in references.of_flag(definition) & gone:
            dependents.setdefault(target, []).append(("flag", key))
    for key, segment in flag_set.segments.items():
        for target in references.of_segment(segment) & gone:
            dependents.setdefault(target, []).append(("segment", key))
    return {target: tuple(sorted(missing)) for target, missing in dependents.items()}


def _orphaned(target: references.Target, dependents: Sequence[references.Target]) -> str:
    kind, key = target
    shown = ", ".join(f"{of} {name!r}" for of, name in dependents[:DEPENDENTS_SHOWN_MAX])
    more = f" and {len(dependents) - DEPENDENTS_SHOWN_MAX} more" if len(dependents) > DEPENDENTS_SHOWN_MAX else ""
    return f"{kind} {key!r} cannot be removed: {shown}{more} would miss it; change them first or in the same commit"
