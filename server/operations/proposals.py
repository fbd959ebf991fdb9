"""Read what a document proposes as changes to an environment."""

from dataclasses import dataclass
from typing import Final

from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag, RemoveSegment
from server.core.definitions.documents import read_each
from server.core.definitions.fields import check_fields, read_object
from server.core.definitions.flagd import is_flagd, read_flagd
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.definitions.segments import read_segment
from server.core.definitions.text import parse_text
from server.core.errors import InvalidRequest
from server.core.flags import FlagDefinition
from server.core.json import Json
from server.core.segments import Segment
from server.store.commit import Part

_FIELDS: Final = frozenset({"$schema", "project", "environment", "segments", "flags"})
"""Of a document; what belongs to the environment itself is not changed by one."""


@dataclass(frozen=True, slots=True)
class Removals:
    """Flags and segments that a proposal takes away."""

    flags: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()


def document_parts(text: bytes, *, project: str, environment: str, removals: Removals) -> list[Part]:
    """The changes that bring a document's flags and segments into an environment; what it does not have stays.

    Errors: InvalidDefinition with every problem; InvalidRequest when nothing is proposed.
    """
    changes: list[Change] = []
    if text.strip():
        flags, segments = _read(parse_text(text, name="document"), project=project, environment=environment)
        changes += [PutSegment(segment) for segment in segments]
        changes += [PutFlag(definition) for definition in flags]
    changes += [RemoveFlag(key) for key in removals.flags]
    changes += [RemoveSegment(key) for key in removals.segments]
    if not changes:
        raise InvalidRequest("the document puts nothing and nothing is to be removed; propose something")
    return [Part(environment, changes)]


def _read(data: Json, *, project: str, environment: str) -> tuple[list[FlagDefinition], list[Segment]]:
    """Each flag and segment as sound as it is by itself; what they refer to may be stored already."""
    if is_flagd(data):
        flag_set = read_flagd(data, project=project, environment=environment).flag_set
        return list(flag_set.flags.values()), list(flag_set.segments.values())
    problems = Problems()
    fields = read_object(data, path="", problems=problems) or {}
    check_fields(fields, _FIELDS, path="", problems=problems)
    segments = read_each(fields, "segments", read_segment, problems=problems)
    flags = read_each(fields, "flags", read_flag, problems=problems)
    problems.raise_if_any()
    return list(flags.values()), list(segments.values())
