"""Open a change request in place of a write that others must agree to."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from server.core.access import Action
from server.core.change_requests.codec import Content, Proposed
from server.core.change_requests.machine import Happening, Step, opened
from server.core.descriptions.differences import describe_event
from server.core.environments import Environment
from server.core.events import Event
from server.core.limits import CHANGE_REQUEST_LINES_MAX
from server.core.policies import Permit, needs_approval, permit_all
from server.store.change_requests import StoredRequest, Versions, content_text, insert_request
from server.store.commit import Committed, Part, Seen, try_within
from server.store.neighbourhood import subjects_of
from server.store.saving import Cause
from server.store.versions import ABSENT, Thing, read_versions

ID_BYTES: Final = 5
"""Random, not counted: a database restored from a backup must not give an old id to another request."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a proposed change would do, found by trying it."""

    committed: Mapping[str, Committed]
    events: Mapping[str, tuple[Event, ...]]
    """Environment -> what would happen there; environments that share a changed flag are here, too."""

    asking: Mapping[str, Environment]
    """Those whose policy asks for approvals of it."""

    base: Versions
    """What it would change, and the versions of that now."""


@dataclass(frozen=True, slots=True)
class _Watch:
    permit: Permit
    environments: dict[str, Environment] = field(default_factory=dict)
    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)

    def ask(self, environment: Environment, events: Sequence[Event]) -> None:
        self.permit(environment, events)
        self.environments[environment.key] = environment

    def see(self, seen: Seen) -> None:
        key = seen.after.flag_set.environment.key
        self.events[key] = (*self.events.get(key, ()), *seen.after.events)


def try_content(connection: Connection, content: Content, why: Cause, *, permit: Permit = permit_all) -> Tried:
    """Try a proposed change, on what is there now, as `try_parts` does."""
    parts = parts_of(content, {})
    return try_parts(connection, parts, why, replace_variants=content.replace_variants, permit=permit)


def try_parts(
    connection: Connection, parts: Sequence[Part], why: Cause, *, replace_variants: bool, permit: Permit
) -> Tried:
    """Try a change in a transaction that goes on as if it had not been. Errors: as `commit`."""
    watch = _Watch(permit)
    committed = try_within(
        connection,
        parts=parts,
        why=replace(why, request_id=""),
        replace_variants=replace_variants,
        permit=watch.ask,
        observe=watch.see,
    )
    asking = {
        key: environment
        for key, environment in watch.environments.items()
        if needs_approval(environment, watch.events.get(key, ()))
    }
    events = {key: each for key, each in watch.events.items() if each}
    return Tried(committed, events, asking, _versions(connection, why.project, parts, events))


def parts_of(content: Content, base: Versions) -> list[Part]:
    """A proposed change as a commit takes it, provided that nothing it touches has moved since `base`."""
    return [Part(each.environment, each.changes, None, dict(base.get(each.environment, {}))) for each in content.parts]


def content_from(parts: Sequence[Part], *, replace_variants: bool) -> Content:
    """What a write would do, as a change request keeps it."""
    return Content(tuple(Proposed(part.environment, tuple(part.changes)) for part in parts), replace_variants)


def open_request(
    connection: Connection, parts: Sequence[Part], why: Cause, *, action: Action, replace_variants: bool, permit: Permit
) -> tuple[StoredRequest, Tried]:
    """Keep a write as a change request, after trying it: what could not be committed is not asked for.

    Errors: as `commit`; TooLarge.
    """
    content = content_from(parts, replace_variants=replace_variants)
    tried = try_parts(connection, parts, why, replace_variants=replace_variants, permit=permit)
    step = Step(Happening.OPENED, why.actor, why.now, why.reason)
    request = StoredRequest(
        project=why.project,
        id=f"cr_{secrets.token_hex(ID_BYTES)}",
        title=why.reason,
        cause=why.cause,
        content=content_text(content),
        base=tried.base,
        lines=lines_of(tried.events),
        progress=opened(step, action),
        created_at=why.now,
        updated_at=why.now,
    )
    insert_request(connection, request, step, request_id=why.request_id)
    return request, tried


def lines_of(events: Mapping[str, Sequence[Event]]) -> dict[str, list[str]]:
    """Environment -> what differs there, line by line; of very many, the first and how many more there are."""
    return {
        name: _shortened([line for event in each for line in describe_event(event)]) for name, each in events.items()
    }


def _shortened(lines: list[str]) -> list[str]:
    more_count = len(lines) - CHANGE_REQUEST_LINES_MAX
    return lines if more_count <= 0 else [*lines[:CHANGE_REQUEST_LINES_MAX], f"and {more_count} more"]


def _versions(
    connection: Connection, project: str, parts: Sequence[Part], events: Mapping[str, Sequence[Event]]
) -> dict[str, dict[Thing, int]]:
    """The versions of all that would change, and of what is asked for and is so already: it must stay so."""
    things: dict[str, set[Thing]] = {
        name: {(each.kind, each.key) for each in found if each.kind != "project"} for name, found in events.items()
    }
    for part in parts:
        if part.environment:
            things.setdefault(part.environment, set()).update(subjects_of(part.changes))
    return {name: read_each(connection, project, name, things=each) for name, each in sorted(things.items())}


def read_each(connection: Connection, project: str, environment: str, *, things: Collection[Thing]) -> dict[Thing, int]:
    """The version of each thing now; ABSENT for one that does not exist."""
    versions: dict[Thing, int] = {}
    for kind in sorted({kind for kind, _ in things}):
        keys = [key for of, key in things if of == kind]
        found = read_versions(connection, project=project, environment=environment, kind=kind, keys=keys)
        versions.update({(kind, key): found.get(key, ABSENT) for key in sorted(keys)})
    return versions
