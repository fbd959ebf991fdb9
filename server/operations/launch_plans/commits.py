"""Make the changes of one instant of a launch plan, or try them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from sqlalchemy import Connection

from server.core.calendars import Closure
from server.core.change_requests import machine as requests
from server.core.change_requests.approvals import WhoIs, lacking
from server.core.changes import Change
from server.core.environments import Environment
from server.core.errors import Moved
from server.core.events import Event
from server.core.launch_plans.machine import Progress
from server.core.launch_plans.plan import Item, Plan, Starts
from server.core.launch_plans.timing import Tick
from server.core.policies import Permit
from server.core.releases.plan import Subject
from server.operations.releases.starting import start_within
from server.operations.requesting import read_each
from server.operations.writes import Write, Writer, written_of
from server.store.change_requests import Versions
from server.store.commit import Part, Seen, commit_within
from server.store.environments import find_environment
from server.store.neighbourhood import subjects_of
from server.store.releases import read_release
from server.store.saving import Cause
from server.store.versions import ABSENT, Thing


class Place(Protocol):
    """Which plan it is."""

    @property
    def project(self) -> str:
        """Where it is."""

    @property
    def id(self) -> str:
        """Its id."""


Things: TypeAlias = Mapping[str, set[Thing]]
"""Environment -> what is touched there."""


@dataclass(slots=True)
class Made:
    """What the items of one instant did."""

    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    """Environment -> what happened there; environments that share a changed flag are here, too."""

    revisions: dict[str, int] = field(default_factory=dict)
    """Environment -> its revision afterwards."""

    moving: dict[Subject, tuple[Item, bool]] = field(default_factory=dict)
    """Flags that a release moves from now on -> what started it, and whether it keeps others from changing them."""

    def see(self, environment: str, events: Sequence[Event]) -> None:
        """Note what happened."""
        self.events[environment] = (*self.events.get(environment, ()), *events)


def actor_of(id: str) -> str:
    """Who makes a plan's changes, as the audit trail names it."""
    return f"plan:{id}"


def commit_tick(connection: Connection, tick: Tick, why: Cause, *, permit: Permit) -> Made:
    """Make the changes of one instant, as one commit. Errors: as `commit`; what `permit` raises."""
    made, parts = Made(), parts_of(tick.items)
    if not parts:
        return made

    def see(seen: Seen) -> None:
        made.see(seen.after.flag_set.environment.key, seen.after.events)

    committed = commit_within(
        connection,
        parts=parts,
        why=why,
        replace_variants=any(item.content.replace_variants for item in tick.items),
        permit=permit,
        observe=see,
    )
    made.revisions.update(written_of(committed, dry_run=False).revisions)
    return made


def start_releases(
    writer: Writer, connection: Connection, tick: Tick, write: Write, *, look: Place, made: Made
) -> None:
    """Begin the releases of one instant, after its changes. Errors: as `start_within`, naming the release."""
    for item in tick.items:
        if item.starts is not None:
            asked, id = replace(write, action=item.action), item.starts.release
            before, went = start_within(writer, connection, asked, project=look.project, id=id, actor=actor_of(look.id))
            for environment, events in went.written.events.items():
                made.see(environment, events)
            made.revisions.update(went.written.revisions)
            plan = before.release.plan
            made.moving.update(dict.fromkeys(plan.subjects(), (item, plan.locks)))


def with_flags(connection: Connection, project: str, plan: Plan) -> Plan:
    """A plan that knows which flags its releases move. Errors: NotFound for a release."""
    return replace(plan, items=tuple(_with_flags(connection, project, item) for item in plan.items))


def _with_flags(connection: Connection, project: str, item: Item) -> Item:
    if item.starts is None:
        return item
    stored = read_release(connection, project=project, id=item.starts.release)
    return replace(item, starts=Starts(stored.id, stored.release.plan.subjects()))


def parts_of(items: Sequence[Item]) -> list[Part]:
    """The changes of several items: those of one environment together, in order."""
    changes: dict[str, list[Change]] = {}
    for item in items:
        for part in item.content.parts:
            changes.setdefault(part.environment, []).extend(part.changes)
    return [Part(environment, tuple(each)) for environment, each in changes.items()]


def touched_by(items: Sequence[Item], events: Mapping[str, Sequence[Event]]) -> Things:
    """All that items are about, and what happened."""
    things: dict[str, set[Thing]] = {}
    for part in parts_of(items):
        if part.environment:
            things.setdefault(part.environment, set()).update(subjects_of(part.changes))
    for item in items:
        for environment, key in () if item.starts is None else item.starts.flags:
            things.setdefault(environment, set()).add(("flag", key))
    for environment, each in events.items():
        found = {(event.kind, event.key) for event in each if event.kind != "project"}
        if environment and found:
            things.setdefault(environment, set()).update(found)
    return things


def versions_of(connection: Connection, project: str, things: Things) -> dict[str, dict[Thing, int]]:
    """The version of each thing now."""
    return {name: read_each(connection, project, name, things=each) for name, each in sorted(things.items())}


def moved_since(connection: Connection, project: str, base: Versions, things: Things) -> list[Moved]:
    """Which of the things are not at the version any more by which somebody last saw them."""
    moved: list[Moved] = []
    for environment, each in things.items():
        known = {thing: base.get(environment, {}).get(thing, ABSENT) for thing in each}
        found = read_each(connection, project, environment, things=each)
        moved += [
            Moved(environment, kind, key, _known(version), _known(found[kind, key]))
            for (kind, key), version in sorted(known.items())
            if found[kind, key] != version
        ]
    return moved


def freezes_of(connection: Connection, project: str, plan: Plan) -> dict[str, list[Closure]]:
    """Environment -> when it is frozen, of those that a plan reaches."""
    frozen: dict[str, list[Closure]] = {}
    for key in plan.environments:
        stored = find_environment(connection, project=project, environment=key)
        windows = () if stored is None else stored.environment.freeze_windows
        frozen[key] = [Closure(each.starts_at, each.ends_at, each.reason) for each in windows]
    return frozen


def lacking_approvals(plan: Plan, progress: Progress, who_is: WhoIs) -> Callable[[Environment, Sequence[Event]], str]:
    """Tells what an environment still asks for before a plan may do something there; "" for nothing."""
    asked = as_request(plan, progress)
    return lambda environment, events: lacking(asked, environment, events, who_is=who_is)


def as_request(plan: Plan, progress: Progress) -> requests.Progress:
    """A plan as far as its approvals are concerned: they are counted as those of a change request."""
    action = plan.items[0].action
    return requests.Progress(requests.State.OPEN, progress.authors, action, approvals=progress.approvals)


def with_versions(base: Versions, versions: Versions) -> dict[str, dict[Thing, int]]:
    """What was known, and what is known now of some of it."""
    return {name: {**base.get(name, {}), **versions.get(name, {})} for name in {*base, *versions}}


def without_request_id(why: Cause) -> Cause:
    """A cause that answers no earlier call: the plan's own step does."""
    return replace(why, request_id="")


def _known(version: int) -> int | None:
    return None if version == ABSENT else version
