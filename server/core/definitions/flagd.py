"""Read a flag set from a file in flagd's format, and write one that flagd and its providers read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from server.core.definitions.configs import CONFIG_FIELDS, read_targeting
from server.core.definitions.documents import Read, finish, present, read_each, read_environment
from server.core.definitions.fields import check_fields, key_problem, read_metadata, read_object
from server.core.definitions.flags import FLAG_FIELDS
from server.core.definitions.flagsets import FLAG, SEGMENT, Node, asking_for, needed_large, write_segment_out
from server.core.definitions.problems import Path, Problems, shown
from server.core.definitions.rules import no_variant
from server.core.definitions.segments import read_condition
from server.core.definitions.variants import read_variants
from server.core.evaluation.lowering import lower_flag
from server.core.flags import Flag, FlagConfig, FlagDefinition
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.segments import Segment

SCHEMA: Final = "https://flagd.dev/schema/v0/flags.json"
EVALUATORS: Final = "$evaluators"
_FIELDS: Final = frozenset({"$schema", "flags", EVALUATORS, "metadata"})
_FLAG_FIELDS: Final = frozenset({"state", "variants", "defaultVariant", "targeting", "metadata"})
_STATES: Final = {"ENABLED": True, "DISABLED": False}

# What stands in one of the two formats only.
_FLAGD_ONLY: Final = frozenset({"state", "defaultVariant"})
_OURS_ONLY: Final = (FLAG_FIELDS | CONFIG_FIELDS) - _FLAG_FIELDS
_OUR_DOCUMENT_ONLY: Final = frozenset({"project", "environment", "bucketing", "segments"})


def is_flagd(data: Json) -> bool:
    """Whether a document is written in flagd's format and not in ours."""
    if not isinstance(data, dict):
        return False
    flags = data.get("flags")
    if isinstance(flags, list) or EVALUATORS in data:
        return True
    if not _OUR_DOCUMENT_ONLY.isdisjoint(data):
        return False
    fields: set[str] = set()
    if isinstance(flags, dict):
        fields.update(*(flag for flag in flags.values() if isinstance(flag, dict)))
    if _FLAGD_ONLY.isdisjoint(fields):
        return _OURS_ONLY.isdisjoint(fields) and "flagd" in str(data.get("$schema", ""))
    return True


def read_flagd(
    data: Json, *, project: str | None = None, environment: str | None = None, lenient: bool = False
) -> Read:
    """Read flagd's flags, evaluators and metadata; `flags` is an object, or a list of flags with a `key` each.

    Strictly read, a file must keep flagd's schema and more: variants and evaluators that are named exist. Leniently
    read, only what flagd itself refuses is an error, and bounds are.

    Errors: InvalidDefinition with all problems, sorted by path.
    """
    problems = Problems(lenient=lenient)
    fields = read_object(data, path="", problems=problems)
    if fields is None:
        problems.raise_if_any()
        fields = {}
    check_fields(fields, _FIELDS, path="", problems=problems)
    names = {"metadata": fields.get("metadata")}
    place = read_environment(names, project=project, environment=environment, problems=problems)
    segments = read_each(fields, EVALUATORS, _read_evaluator, problems=problems)
    unread: set[Node] = {(SEGMENT, key) for key, segment in segments.items() if segment is None}
    flags, indexes = _read_flags(fields, problems)
    unread.update((FLAG, key) for key, flag in flags.items() if flag is None)
    flag_set = FlagSet(place, present(flags), present(segments))
    return finish(flag_set, problems=problems, unread=unread, located=lambda path: _located(path, indexes))


def _located(path: str, indexes: Mapping[str, int]) -> str:
    """Where a path into our document is in the file."""
    if path == "/segments":
        return f"/{EVALUATORS}"
    if path.startswith("/segments/"):
        # A segment's condition is the whole evaluator.
        _, _, key, *rest = path.split("/")
        return "/".join(("", EVALUATORS, key, *rest[1:]))
    if indexes and path.startswith("/flags/"):
        _, _, key, *rest = path.split("/")
        plain = key.replace("~1", "/").replace("~0", "~")
        return "/".join(("", "flags", str(indexes.get(plain, key)), *rest))
    return path


def _read_evaluator(key: str, data: Json, *, problems: Problems, path: Path, lenient: bool) -> Segment | None:
    before = len(problems.errors)
    if problem := key_problem(key):
        problems.error(path, problem)
    if data is None:
        problems.error(path, "an evaluator is a rule, not null")
    segment = read_condition(key, data, problems=problems, path=path, lenient=lenient)
    return segment if len(problems.errors) == before else None


def _read_flags(fields: Mapping[str, Json], problems: Problems) -> tuple[dict[str, Any], dict[str, int]]:
    """Flags by key, None for one that could not be read; and where each stands, if they are a list."""
    data = fields.get("flags")
    if data is None:
        problems.error("/flags", "the file has no flags")
    if not isinstance(data, list):
        return read_each(fields, "flags", _read_flag, problems=problems), {}
    flags: dict[str, Any] = {}
    indexes: dict[str, int] = {}
    for index, entry in enumerate(data):
        path = ("/flags", index)
        flag = read_object(entry, path=path, problems=problems)
        key = None if flag is None else flag.get("key")
        if flag is None or key_problem(key):
            problems.error((path, "key"), key_problem(key))
        elif key in indexes:
            problems.error((path, "key"), f"flag {shown(key)} stands twice")
        else:
            indexes[str(key)] = index
            rest = {name: value for name, value in flag.items() if name != "key"}
            flags[str(key)] = _read_flag(str(key), rest, problems=problems, path=path, lenient=problems.lenient)
    return flags, indexes


def _read_flag(key: str, data: Json, *, problems: Problems, path: Path, lenient: bool) -> FlagDefinition | None:
    before, kept = len(problems.errors), problems.kept
    if problem := key_problem(key):
        problems.error(path, problem)
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, _FLAG_FIELDS, path=path, problems=problems, lenient=lenient)
    default = fields.get("defaultVariant")
    at = (path, "variants")
    read = read_variants(
        fields.get("variants"), declared=None, default=default, path=at, problems=problems, lenient=lenient
    )
    variants = None if read is None else read[1]
    _check_default(default, variants, (path, "defaultVariant"), problems)
    enabled = _read_state(fields.get("state"), (path, "state"), problems)
    at = (path, "targeting")
    targeting = read_targeting(fields.get("targeting"), variants=variants, path=at, problems=problems, lenient=lenient)
    is_lenient = problems.kept > kept
    metadata = read_metadata(fields, path=path, problems=problems, lenient=lenient)
    if read is None or len(problems.errors) > before:
        return None
    flag = Flag(key, read[0], read[1], metadata=metadata)
    return FlagDefinition(flag, FlagConfig(enabled, default=default, targeting=targeting, lenient=is_lenient))


def _check_default(default: Json, variants: Mapping[str, Json] | None, path: Path, problems: Problems) -> None:
    if default is not None and not isinstance(default, str):
        problems.error(path, f"expected a variant or null, not {shown(default)}")
    elif default is not None and variants is not None and default not in variants:
        problems.error(path, no_variant(default, variants))


def _read_state(state: Json, path: Path, problems: Problems) -> bool:
    if isinstance(state, str) and state in _STATES:
        return _STATES[state]
    given = "is missing" if state is None else f"is {shown(state)}"
    problems.error(path, f"{given}; write ENABLED or DISABLED")
    return False


def write_flagd(flag_set: FlagSet) -> dict[str, Any]:
    """Write a flag set as flagd reads it.

    Raw targeting is written as it is, and segments as evaluators, references inside them written out because flagd
    does not follow those. A flag with rules is lowered, so that it needs nothing of ours.

    What needs a large segment is left out, as `left_out` says: flagd could not look its keys up.

    Errors: InvalidDefinition when a definition cannot be written out.
    """
    bucketing = flag_set.environment.bucketing
    absent = left_out(flag_set)
    data: dict[str, Any] = {"$schema": SCHEMA}
    data["flags"] = {
        key: _write_flag(definition, flag_set)
        for key, definition in flag_set.flags.items()
        if ("flag", key) not in absent
    }
    evaluators = {
        key: write_segment_out(segment, segments=flag_set.segments, bucketing=bucketing)
        for key, segment in flag_set.segments.items()
        if ("segment", key) not in absent
    }
    if evaluators:
        data[EVALUATORS] = evaluators
    if flag_set.environment.metadata:
        data["metadata"] = dict(flag_set.environment.metadata)
    return data


def left_out(flag_set: FlagSet) -> dict[Node, frozenset[str]]:
    """The flags and segments that a file for flagd cannot have, each with the large segments that it needs."""
    found: dict[Node, frozenset[str]] = {}
    for key, definition in flag_set.flags.items():
        config = definition.config
        # Written as it is, so what it refers to must be there, even if it is off.
        is_raw = config.targeting is not None and not (not config.enabled and config.off_variant is not None)
        asking = replace(definition, config=replace(config, enabled=True)) if is_raw else definition
        found[FLAG, key] = needed_large(asking, flag_set)
    for key in flag_set.segments:
        found[SEGMENT, key] = needed_large(asking_for(key), flag_set)
    return {node: large for node, large in found.items() if large}


def _write_flag(definition: FlagDefinition, flag_set: FlagSet) -> dict[str, Any]:
    config = definition.config
    is_off = not config.enabled and config.off_variant is not None
    if config.targeting is None or is_off:
        lowered = lower_flag(
            definition,
            flags=flag_set.flags,
            segments=flag_set.segments,
            bucketing=flag_set.environment.bucketing,
        )
        return lowered.to_flagd()
    flag: dict[str, Any] = {
        "state": "ENABLED" if config.enabled else "DISABLED",
        "variants": dict(definition.flag.variants),
    }
    if config.default is not None:
        flag["defaultVariant"] = config.default
    flag["targeting"] = config.targeting
    if definition.flag.metadata:
        flag["metadata"] = dict(definition.flag.metadata)
    return flag
