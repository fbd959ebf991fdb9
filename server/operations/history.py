"""Look back at flags, segments and environments: what happened to them, what they were, and bring that back."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine

from server.core.access import Action, Scope
from server.core.audit import AuditEntry
from server.core.changes import Change, PutFlag, PutSegment, UpdateEnvironment
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.errors import NotFound, Refused
from server.core.flags import FlagDefinition
from server.operations.writes import Write, Writer, Written, require
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import find_environment
from server.store.flagsets import load_documents
from server.store.history import (
    Moment,
    Thing,
    count_history,
    list_history,
    moment_at,
    moment_of,
    texts_at,
)
from server.store.mapping import as_text, environment_from_text, parse, parse_flag, parse_segment

KINDS: Final = ("flag", "segment", "environment")


@dataclass(frozen=True, slots=True)
class Place:
    """An environment by its name."""

    project: str
    environment: str


@dataclass(frozen=True, slots=True)
class When:
    """A moment as somebody asks for it: one of the two. Both None: now."""

    revision: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """A thing as of a moment."""

    moment: Moment
    text: str
    """Its document, as `flagstaff export` has it for flags and segments."""


@dataclass(frozen=True, slots=True)
class History:
    """Everything there was in one database."""

    engine: Engine
    writer: Writer

    def revisions(
        self, place: Place, thing: Thing, *, before_sequence: int | None, limit: int
    ) -> tuple[list[AuditEntry], int]:
        """What happened to a thing, the newest first, and how often anything did.

        Errors: NotFound when there never was such a thing, StoreUnavailable.
        """
        where = Environment(place.project, place.environment)
        with reading(self.engine) as connection:
            total = count_history(connection, where, thing)
            if not total:
                moment_of(connection, project=place.project, environment=place.environment, revision=1)
                raise NotFound(f"{thing[0]} {thing[1]!r} is not in {where.flag_set!r} and never was")
            return list_history(connection, where, thing, before_sequence=before_sequence, limit=limit), total

    def past(self, place: Place, thing: Thing, when: When) -> Past:
        """A thing as it was. Errors: NotFound when it was not there, StoreUnavailable."""
        with reading(self.engine) as connection:
            moment = moment_when(connection, place, when)
            text = _text_at(connection, moment, thing)
        if text is None:
            raise NotFound(
                f"{thing[0]} {thing[1]!r} is not in revision {moment.revision} of {moment.environment.flag_set!r}"
            )
        return Past(moment, text)

    def revert(self, place: Place, thing: Thing, *, revision: int, how: "Revert", write: Write) -> Written:
        """Make a thing again what it was at a revision, as a new change.

        What does not fit any more is refused as any change is: a prerequisite that is gone, a variant that others
        require. Errors: NotFound when it was not there then; Refused when what was there cannot be read; as
        `Writer.write`.
        """
        past = self.past(place, thing, When(revision=revision))
        change = self._reverting(place, thing, past, how)
        if thing[0] == "environment":
            # Approvals and freezes are among its settings.
            require(write.principal, Action.ADMINISTER, Scope(place.project, place.environment))
            write = replace(write, action=Action.ADMINISTER)
        if not write.cause:
            write = replace(write, cause=f"revert:{past.moment.revision}")
        expected: dict[Any, int] = {} if write.expected_version is None else {thing: write.expected_version}
        part = Part(place.environment, (change,), expected_versions=expected)
        return self.writer.write(place.project, (part,), write, replace_variants=how.replace_variants)

    def _reverting(self, place: Place, thing: Thing, past: Past, how: "Revert") -> Change:
        kind, key = thing
        problems = Problems()
        match kind:
            case "flag":
                definition = parse_flag(key, parse(past.text), problems=problems)
                if definition is not None and how.keeps_shared:
                    definition = self._with_shared_part(place, definition)
                change: Change | None = None if definition is None else PutFlag(definition, how.rerandomise)
            case "segment":
                segment = parse_segment(key, parse(past.text), problems=problems)
                change = None if segment is None else PutSegment(segment)
            case _:
                then = environment_from_text(place.project, place.environment, past.text)
                names = {field.name for field in fields(UpdateEnvironment)}
                change = UpdateEnvironment(**{name: getattr(then, name) for name in sorted(names)})
        if change is None:
            raise Refused(
                f"{kind} {key!r} as of revision {past.moment.revision} is not one that this version accepts: "
                f"{'; '.join(map(str, problems.errors[:3]))}"
            )
        return change

    def _with_shared_part(self, place: Place, definition: FlagDefinition) -> FlagDefinition:
        with reading(self.engine) as connection:
            stored = load_documents(
                connection, project=place.project, environment=place.environment, flags=[definition.key], segments=()
            )
        current = parse_flag(definition.key, stored.flags.get(definition.key), problems=Problems())
        return definition if current is None else replace(definition, flag=current.flag)


@dataclass(frozen=True, slots=True)
class Revert:
    """How a thing is to be brought back."""

    keeps_shared: bool = False
    """Of a flag only the configuration of this environment; variants, owner and the rest stay as they are."""

    rerandomise: bool = False
    """Also salts of rules that exist with others by now: units get the variants that they had then."""

    replace_variants: bool = False
    """Also values of variants that other environments serve too."""


def moment_when(connection: Connection, place: Place, when: When) -> Moment:
    """A moment of an environment. Errors: NotFound."""
    where: Mapping[str, Any] = {"project": place.project, "environment": place.environment}
    if when.at is not None:
        return moment_at(connection, **where, at=when.at)
    if when.revision is not None:
        return moment_of(connection, **where, revision=when.revision)
    stored = find_environment(connection, **where)
    return moment_of(connection, **where, revision=1 if stored is None else stored.revision)


def _text_at(connection: Connection, moment: Moment, thing: Thing) -> str | None:
    where = moment.environment
    (text,) = texts_at(connection, where.project, where.key, things=[thing], revision=moment.revision)
    return None if text is None else as_text(text)
