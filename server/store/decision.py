"""Hold what a commit decided, check it a last time, and draw up what is to be written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from server.core.announcing.naming import announced_type
from server.core.definitions.flagsets import check_flag_set
from server.core.definitions.problems import Problems
from server.core.events import (
    EnvironmentCreated,
    EnvironmentDeleted,
    EnvironmentEvent,
    EnvironmentUpdated,
    Event,
    FlagCreated,
    FlagRemoved,
    FlagUpdated,
    ProjectEvent,
    SegmentCreated,
    SegmentRemoved,
    SegmentUpdated,
)
from server.core.flagsets import FlagSet
from server.core.policies import is_kill
from server.core.references import Target
from server.store.elsewhere import SharedChange
from server.store.environments import StoredEnvironment
from server.store.mapping import (
    FlagText,
    environment_text,
    flag_text,
    parse,
    parse_flag,
    parse_segment,
    project_text,
    segment_text,
    turned_off,
)
from server.store.neighbourhood import Neighbourhood, is_placeholder
from server.store.saving import Record
from server.store.standing import Standing
from server.store.sync_sizes import SyncCount


@dataclass(frozen=True, slots=True)
class Decision:
    """The flag set before and after, what happened between, and the texts that will say so."""

    before: StoredEnvironment
    standing: Standing | None
    """Of the project; None when it is not there yet, or something else is written before the records."""

    near: Neighbourhood
    after: FlagSet
    events: tuple[Event, ...]
    flag_texts: Mapping[str, FlagText]
    segment_texts: Mapping[str, str]

    @property
    def revision(self) -> int:
        """The environment's revision afterwards; creating a project is none of an environment's."""
        here = any(not isinstance(event, ProjectEvent) for event in self.events)
        return self.before.revision + here


def decide(
    before: StoredEnvironment,
    standing: Standing | None,
    near: Neighbourhood,
    *,
    after: FlagSet,
    events: tuple[Event, ...],
) -> Decision:
    """Write the definitions out."""
    flags = {event.key: _flag_text(near, event) for event in events if isinstance(event, FlagCreated | FlagUpdated)}
    segments = {
        event.key: segment_text(event.after) for event in events if isinstance(event, SegmentCreated | SegmentUpdated)
    }
    if any(isinstance(event, EnvironmentDeleted) for event in events):
        # Tokens end with it, which the trail tells first.
        standing = None
    return Decision(before, standing, near, after, events, flags, segments)


def _flag_text(near: Neighbourhood, event: FlagCreated | FlagUpdated) -> FlagText:
    stored = near.flag_text(event.key)
    if stored is not None and ("flag", event.key) in near.damaged and is_placeholder(event.after):
        # Nobody can write out what cannot be read, but it can be turned off as it is.
        return FlagText(stored.flag, turned_off(stored.config))
    return flag_text(event.after)


def validate(decision: Decision, problems: Problems) -> None:
    """Report everything that is wrong with the flag set afterwards.

    The texts that will be stored are read back: whoever made the values, what is kept is what was checked. A flag that
    is only turned off is not asked about: that must work whatever else is wrong with it.
    """
    found = Problems()
    killed = {event.key for event in decision.events if is_kill(event)}
    for key, text in decision.flag_texts.items():
        if key not in killed:
            parse_flag(key, parse(text.merged), problems=found)
    for key, segment in decision.segment_texts.items():
        parse_segment(key, parse(segment), problems=found)
    if not found.errors:
        found.add(check_flag_set(decision.after, touched=_touched(decision)))
    problems.add(found.errors)


def _touched(decision: Decision) -> list[Target] | None:
    # Another bucketing concerns every flag.
    if any(isinstance(event, EnvironmentUpdated) for event in decision.events):
        return None
    # One that is off takes nothing from those that require it: they have less to write out than before.
    events = [event for event in decision.events if not is_kill(event)]
    return [(event.kind, event.key) for event in events if event.kind in ("flag", "segment")]


def shared_changes(decision: Decision) -> Iterator[SharedChange]:
    """Flags whose shared part is another than the stored one."""
    for key, text in decision.flag_texts.items():
        before = decision.near.flag_parts.get(key)
        if before is not None and before != text.flag:
            yield SharedChange(key, before, text.flag)


def records(decision: Decision) -> Iterator[Record]:
    """One record for each event, with the texts before and after."""
    environment, revision = decision.after.environment.key, decision.revision
    for event in decision.events:
        if isinstance(event, ProjectEvent):
            yield project_record(event)
        else:
            before, after = _texts(decision, event)
            yield Record(environment, revision, event.type, event.kind, event.key, before, after, announced_type(event))


def project_record(event: ProjectEvent) -> Record:
    """The record of what happened to a project itself."""
    before, after = (None if project is None else project_text(project) for project in (event.before, event.after))
    return Record("", 0, event.type, event.kind, event.key, before, after)


def _texts(decision: Decision, event: EnvironmentEvent) -> tuple[str | None, str | None]:
    match event:
        case EnvironmentCreated():
            return None, environment_text(event.after)
        case EnvironmentUpdated():
            return environment_text(event.before), environment_text(event.after)
        case EnvironmentDeleted():
            return environment_text(event.before), None
        case FlagCreated() | FlagUpdated() | FlagRemoved():
            before, after = decision.near.flag_text(event.key), decision.flag_texts.get(event.key)
            return (None if before is None else before.merged), (None if after is None else after.merged)
        case SegmentCreated() | SegmentUpdated() | SegmentRemoved():
            return decision.near.segment_texts.get(event.key), decision.segment_texts.get(event.key)


def only_writes(decision: Decision, counts: Sequence[SyncCount]) -> bool:
    """Whether nothing has to be read any more before all of it is written, as when flags are edited."""
    edits = all(isinstance(event, FlagUpdated) for event in decision.events)
    return edits and all(count.total is not None or not count.is_concerned for count in counts)
