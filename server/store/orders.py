"""Hold what one commit was asked, and check it before anything is read."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    DeleteEnvironment,
    DeleteProject,
    Preview,
    UpdateEnvironment,
    UpdateProject,
)
from server.core.environments import Environment
from server.core.errors import InvalidRequest, TooLarge
from server.core.events import Event
from server.core.flagsets import FlagSet
from server.core.limits import KEY_CHARS_MAX, TEXT_CHARS_MAX
from server.core.policies import Permit
from server.store.flagsets import Touched
from server.store.saving import Cause
from server.store.versions import Thing


@dataclass(frozen=True, slots=True)
class Part:
    """What a commit is to do in one environment, and what must be so before."""

    environment: str
    """Only creating a project may leave it ""."""

    changes: Sequence[Change]
    expected_revision: int | None = None
    """The environment must still be at it; 0: not there yet."""

    expected_versions: Mapping[Thing, int] = field(default_factory=dict)
    """Thing -> the revision that touched it last, by which its reader knew it; ABSENT: it must not exist."""

    expected_flags: Mapping[str, int] = field(default_factory=dict)
    """Flag -> the version of what environments share of it; ABSENT: no environment of the project may have it."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did to one environment; for a repeated request, what it did the first time."""

    revision: int
    events: tuple[Event, ...]
    touched: Touched
    unchanged: bool = False
    """Everything asked for was so already: no revision, no audit entry, no event."""

    elsewhere: Mapping[str, int] = field(default_factory=dict)
    """Revisions of other environments that this commit touched, because they share a flag's variants."""

    unsent: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Flags concerned that in-process clients are not sent, each with the large segments that it needs."""

    warnings: tuple[str, ...] = ()
    """What else moves flags that it touched."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One environment as a commit found it and would leave it: what is touched and all that is near to it."""

    revision: int
    before: FlagSet
    after: Preview


Observe: TypeAlias = Callable[[Seen], None]
"""Told within the commit of each environment that would change, before anything is refused."""


def observe_nothing(_seen: Seen) -> None:
    """Look away."""


@dataclass(frozen=True, slots=True)
class Order:
    """All that one commit was asked."""

    project: str
    parts: Sequence[Part]
    why: Cause
    replace_variants: bool
    permit: Permit
    observe: Observe

    def flag_set(self, part: Part) -> str:
        """The name of a part's flag set."""
        return f"{self.project}/{part.environment}"

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of what is to be done, whoever asks for it and why."""
        asked = tuple((part.environment, tuple(part.changes)) for part in self.parts)
        content = repr((self.project, *(asked[0] if len(asked) == 1 else asked), self.replace_variants))
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


def check_order(order: Order) -> None:
    """Refuse what cannot be understood. Errors: InvalidRequest, TooLarge."""
    why = order.why
    if not why.actor:
        raise InvalidRequest("a commit needs an actor: who or what makes the change")
    if why.now.tzinfo is None:
        raise InvalidRequest(f"instant {why.now} has no time zone")
    for name, text in (("actor", why.actor), ("reason", why.reason), ("cause", why.cause), ("id", why.request_id)):
        most = KEY_CHARS_MAX if name == "id" else TEXT_CHARS_MAX
        if len(text) > most:
            raise TooLarge(f"the commit's {name} has {len(text)} characters, at most {most} are allowed")
        _refuse_nul(text, f"the commit's {name}")
    names = [part.environment for part in order.parts]
    if not names or len(set(names)) < len(names):
        raise InvalidRequest("a commit has one part for each environment that it changes, and at least one")
    for part in order.parts:
        _check_part(order, part)


def _refuse_nul(text: str | None, what: str) -> None:
    # PostgreSQL keeps no text with it; both kinds of database take the same.
    if text and "\0" in text:
        raise InvalidRequest(f"{what} has the character NUL, which cannot be stored; take it out")


def _check_part(order: Order, part: Part) -> None:
    flag_set = order.flag_set(part)
    for change in part.changes:
        if isinstance(change, CreateProject) and change.key != order.project:
            raise InvalidRequest(f"a commit to project {order.project!r} cannot create project {change.key!r}")
        if isinstance(change, CreateEnvironment) and change.environment.flag_set != flag_set:
            raise InvalidRequest(f"a commit to {flag_set!r} cannot create {change.environment.flag_set!r}")
        about = change.environment if isinstance(change, CreateEnvironment) else change
        if isinstance(about, CreateProject | UpdateProject | Environment | UpdateEnvironment):
            for name in ("name", "description", "source"):
                _refuse_nul(getattr(about, name, None), f"the {name}")
        if not part.environment and not isinstance(change, CreateProject | UpdateProject | DeleteProject):
            raise InvalidRequest(f"a commit with {type(change).__name__} needs an environment")
        if isinstance(change, DeleteEnvironment) and len(part.changes) > 1:
            raise InvalidRequest(f"a commit that deletes {flag_set!r} can do nothing else there")
