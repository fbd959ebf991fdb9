"""Make the changes of one instant of a launch plan, or try them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sqlalchemy import Connection

from server.core.calendars import Closure
from server.core.change_requests import machine as requests
from server.core.change_requests.approvals import WhoIs, lacking
from server.core.changes import Change
from server.core.environments import Environment
from server.core.errors import Moved
from server.core.events import Event
from server.core.flagsets import FlagSet
from server.core.launch_plans.machine import Progress
from server.core.launch_plans.plan import Item, Plan
from server.core.launch_plans.timing import Tick
from server.core.policies import Permit
from server.operations.requesting import read_each
from server.store.change_requests import Versions
from server.store.commit import Committed, Part, Seen, commit_within
from server.store.environments import find_environment
from server.store.neighbourhood import subjects_of
from server.store.saving import Cause
from server.store.versions import ABSENT, Thing

Things: TypeAlias = Mapping[str, set[Thing]]
"""Environment -> what is touched there."""


@dataclass(slots=True)
class Made:
    """What the items of one instant did."""

    committed: Mapping[str, Committed] = field(default_factory=dict)
    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    """Environment -> what happened there; environments that share a changed flag are here, too."""

    after: dict[str, FlagSet] = field(default_factory=dict)
    """Environment -> its flags afterwards, as far as the commit had to know them."""


def actor_of(id: str) -> str:
    """Who makes a plan's changes, as the audit trail names it."""
    return f"plan:{id}"


def commit_tick(connection: Connection, tick: Tick, why: Cause, *, permit: Permit) -> Made:
    """Make the changes of one instant, as one commit. Errors: as `commit`; what `permit` raises."""
    made = Made()

    def see(seen: Seen) -> None:
        key = seen.after.flag_set.environment.key
        made.events[key] = (*made.events.get(key, ()), *seen.after.events)
        made.after[key] = seen.after.flag_set

    made.committed = commit_within(
        connection,
        parts=parts_of(tick.items),
        why=why,
        replace_variants=any(item.content.replace_variants for item in tick.items),
        permit=permit,
        observe=see,
    )
    return made


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
