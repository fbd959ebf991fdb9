"""Read a flag set from a document of ours, and write it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from server.core.definitions.fields import check_fields, name_problem, read_choice, read_metadata, read_object
from server.core.definitions.flags import read_flag, write_flag
from server.core.definitions.flagsets import FLAG, SEGMENT, Node, check_flag_set, flag_segments
from server.core.definitions.problems import Problems, in_order, pointer
from server.core.definitions.references import references
from server.core.definitions.segments import read_segment, write_whole_segment
from server.core.environments import Bucketing, Environment
from server.core.errors import Problem
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.segments import Segment

_FIELDS: Final = frozenset({"$schema", "project", "environment", "bucketing", "metadata", "segments", "flags"})
BUCKETINGS: Final = {bucketing.value: bucketing for bucketing in Bucketing}


@dataclass(frozen=True, slots=True)
class Read:
    """A flag set that was read, and what a lenient reader let pass."""

    flag_set: FlagSet
    warnings: tuple[Problem, ...] = ()


def read_document(
    data: Json, *, project: str | None = None, environment: str | None = None, lenient: bool = False
) -> Read:
    """Read one environment's flags and segments; `project` and `environment` win over what the document says.

    Errors: InvalidDefinition with all problems, sorted by path.
    """
    problems = Problems(lenient=lenient)
    fields = read_object(data, path="", problems=problems)
    if fields is None:
        problems.raise_if_any()
        fields = {}
    check_fields(fields, _FIELDS, path="", problems=problems)
    place = read_environment(fields, project=project, environment=environment, problems=problems)
    unread: set[Node] = set()
    segments = read_each(fields, "segments", read_segment, problems=problems)
    unread.update((SEGMENT, key) for key, segment in segments.items() if segment is None)
    if "flags" not in fields:
        problems.error("/flags", "the document has no flags; an empty set is written {}")
    flags = read_each(fields, "flags", read_flag, problems=problems)
    unread.update((FLAG, key) for key, flag in flags.items() if flag is None)
    flag_set = FlagSet(place, present(flags), present(segments))
    return finish(flag_set, problems=problems, unread=unread)


def read_environment(
    fields: Mapping[str, Json], *, project: str | None, environment: str | None, problems: Problems
) -> Environment:
    """The environment that a document describes; names that are given win over those in it."""
    names: dict[str, str] = {}
    for field, given in (("project", project), ("environment", environment)):
        name = fields.get(field) if given is None else given
        if name is None:
            problems.error((("", field)), f"no {field} is named, neither here nor by an option")
        elif problem := name_problem(name):
            problems.error(("", field), problem)
        names[field] = name if isinstance(name, str) else ""
    bucketing = read_choice(fields, "bucketing", BUCKETINGS, path="", problems=problems, default=Bucketing.V2)
    metadata = read_metadata(fields, path="", problems=problems, lenient=problems.lenient)
    return Environment(names["project"], names["environment"], bucketing=bucketing, metadata=metadata)


def read_each(
    fields: Mapping[str, Json], name: str, read: "Callable[..., Any]", *, problems: Problems
) -> dict[str, Any]:
    """Read every entry of an object with a reader for one; an entry that could not be read is None."""
    data = fields.get(name)
    if data is None:
        return {}
    entries = read_object(data, path=("", name), problems=problems) or {}
    path = pointer("", name)
    return {
        key: read(key, value, problems=problems, path=(path, key), lenient=problems.lenient)
        for key, value in entries.items()
    }


def present(read: Mapping[str, Any]) -> dict[str, Any]:
    """What could be read."""
    return {key: value for key, value in read.items() if value is not None}


def finish(
    flag_set: FlagSet,
    *,
    problems: Problems,
    unread: Collection[Node],
    located: Callable[[str], str] = lambda path: path,
) -> Read:
    """Check the set as a whole, then give it out or raise everything that was found.

    `located` turns a path into our documents into one into the document that was read.
    """
    if problems.lenient:
        flag_set = mark_lenient(flag_set)
    found = check_flag_set(flag_set, unread=unread)
    problems.add(replace(problem, path=located(problem.path)) for problem in found)
    problems.raise_if_any()
    return Read(flag_set, tuple(in_order(problems.warnings)))


def mark_lenient(flag_set: FlagSet) -> FlagSet:
    """Mark what refers to segments that do not exist, so that the reference is kept as a warning from now on."""
    segments = flag_set.segments
    marked_segments = {key: _marked_segment(segment, segments) for key, segment in segments.items()}
    marked_flags = {key: _marked_flag(definition, segments) for key, definition in flag_set.flags.items()}
    return FlagSet(flag_set.environment, marked_flags, marked_segments)


def _marked_segment(segment: Segment, known: Mapping[str, Segment]) -> Segment:
    if segment.lenient or references(segment.condition) <= known.keys():
        return segment
    return replace(segment, lenient=True)


def _marked_flag(definition: FlagDefinition, known: Mapping[str, Segment]) -> FlagDefinition:
    if definition.config.lenient or flag_segments(definition) <= known.keys():
        return definition
    return replace(definition, config=replace(definition.config, lenient=True))


def write_document(flag_set: FlagSet) -> dict[str, Any]:
    """Write one environment's flags and segments; `read_document` gives the same flag set back.

    Name, source and the critical mark of the environment are not part of its definitions and are left out.
    """
    environment = flag_set.environment
    data: dict[str, Any] = {"project": environment.project, "environment": environment.key}
    if environment.bucketing is not Bucketing.V2:
        data["bucketing"] = environment.bucketing.value
    if environment.metadata:
        data["metadata"] = dict(environment.metadata)
    if flag_set.segments:
        data["segments"] = {key: write_whole_segment(segment) for key, segment in flag_set.segments.items()}
    data["flags"] = {key: write_flag(definition) for key, definition in flag_set.flags.items()}
    return data
