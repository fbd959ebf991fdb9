"""Read a flag with its configuration from JSON of ours, and write it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from server.core.definitions.configs import (
    CONFIG_FIELDS,
    read_config_fields,
    read_config_part,
    write_config_part,
)
from server.core.definitions.fields import (
    check_fields,
    key_problem,
    read_choice,
    read_flag_value,
    read_instant,
    read_metadata,
    read_object,
    read_text,
    read_texts,
    write_instant,
)
from server.core.definitions.problems import Path, Problems, shown
from server.core.definitions.variants import read_variants
from server.core.flags import Flag, FlagDefinition, FlagKind, ValueType
from server.core.json import Json
from server.core.limits import KEY_CHARS_MAX, TAGS_MAX, TEXT_CHARS_MAX

__all__ = [
    "CONFIG_FIELDS",
    "FLAG_FIELDS",
    "read_config_part",
    "read_flag",
    "read_flag_part",
    "write_config_part",
    "write_flag",
    "write_flag_part",
]

FLAG_FIELDS: Final = frozenset(
    {"type", "variants", "description", "kind", "temporary", "expectedLifetimeDays", "owner", "tags", "links"}
    | {"metadata", "archivedAt"}
)
_FIELDS: Final = FLAG_FIELDS | CONFIG_FIELDS
_TYPES: Final = {value_type.value: value_type for value_type in ValueType}
_KINDS: Final = {kind.value: kind for kind in FlagKind}
_LIFETIME_DAYS_MAX: Final = 36_500


def read_flag(key: str, data: Json, *, problems: Problems, path: Path, lenient: bool = False) -> FlagDefinition | None:
    """Read a flag and its configuration in one environment; None when there was an error.

    A lenient reader keeps what flagd only warns about, and marks the configuration as lenient.
    """
    before = len(problems.errors)
    fields = _object(key, data, problems=problems, path=path)
    if fields is None:
        return None
    check_fields(fields, _FIELDS, path=path, problems=problems, lenient=lenient)
    kept = problems.kept
    marked = lenient or fields.get("lenient") is True
    default = fields.get("default")
    flag = _read_flag_fields(key, fields, default=default, problems=problems, path=path, lenient=marked)
    is_kept = problems.kept > kept
    variants = None if flag is None else flag.variants
    config = read_config_fields(key, fields, variants=variants, problems=problems, path=path, lenient=lenient)
    if flag is None or len(problems.errors) > before:
        return None
    return FlagDefinition(flag, replace(config, lenient=True) if is_kept else config)


def read_flag_part(key: str, data: Json, *, problems: Problems, path: Path, lenient: bool = False) -> Flag | None:
    """Read what a flag is in every environment; None when there was an error."""
    before = len(problems.errors)
    fields = _object(key, data, problems=problems, path=path)
    if fields is None:
        return None
    check_fields(fields, FLAG_FIELDS, path=path, problems=problems, lenient=lenient)
    flag = _read_flag_fields(key, fields, default=None, problems=problems, path=path, lenient=lenient)
    return flag if len(problems.errors) == before else None


def _object(key: str, data: Json, *, problems: Problems, path: Path) -> dict[str, Json] | None:
    if problem := key_problem(key):
        problems.error(path, problem)
    return read_object(data, path=path, problems=problems)


def _read_flag_fields(
    key: str, data: Mapping[str, Json], *, default: Json, problems: Problems, path: Path, lenient: bool
) -> Flag | None:
    declared = read_choice(data, "type", _TYPES, path=path, problems=problems, default=None)
    read = read_variants(
        data.get("variants"),
        declared=declared,
        default=default,
        path=(path, "variants"),
        problems=problems,
        lenient=lenient,
    )
    described = _describe(data, problems=problems, path=path) if data.keys() & _DESCRIBED else {}
    metadata = read_metadata(data, path=path, problems=problems, lenient=lenient)
    return None if read is None else Flag(key, read[0], read[1], metadata=metadata, **described)


_DESCRIBED: Final = FLAG_FIELDS - {"type", "variants", "metadata"}


def _describe(data: Mapping[str, Json], *, problems: Problems, path: Path) -> dict[str, Any]:
    """The fields that evaluation does not need."""
    tags = read_texts(data, "tags", path=path, problems=problems, items_max=TAGS_MAX, chars_max=KEY_CHARS_MAX)
    links = read_texts(data, "links", path=path, problems=problems, items_max=TAGS_MAX, chars_max=TEXT_CHARS_MAX)
    return {
        "description": read_text(data, "description", path=path, problems=problems),
        "kind": read_choice(data, "kind", _KINDS, path=path, problems=problems, default=FlagKind.RELEASE),
        "temporary": read_flag_value(data, "temporary", True, path=path, problems=problems),
        "expected_lifetime_days": _lifetime(data.get("expectedLifetimeDays"), path, problems),
        "owner": read_text(data, "owner", path=path, problems=problems),
        "tags": tags,
        "links": links,
        "archived_at": read_instant(data, "archivedAt", path=path, problems=problems),
    }


def _lifetime(value: Json, path: Path, problems: Problems) -> int | None:
    if value is None:
        return None
    whole = int(value) if type(value) is float and value.is_integer() else value
    if type(whole) is int and 1 <= whole <= _LIFETIME_DAYS_MAX:
        return whole
    message = f"expected a whole number of days from 1 to {_LIFETIME_DAYS_MAX}, not {shown(value)}"
    problems.error((path, "expectedLifetimeDays"), message)
    return None


def write_flag(definition: FlagDefinition) -> dict[str, Any]:
    """Write a flag with its configuration as one object; `read_flag` gives the same definition back."""
    return {**write_flag_part(definition.flag), **write_config_part(definition.config)}


def write_flag_part(flag: Flag) -> dict[str, Any]:
    """Write what a flag is in every environment; fields that have their default value are left out."""
    data: dict[str, Any] = {"type": flag.type.value, "variants": dict(flag.variants)}
    if flag.description:
        data["description"] = flag.description
    if flag.kind is not FlagKind.RELEASE:
        data["kind"] = flag.kind.value
    if not flag.temporary:
        data["temporary"] = False
    if flag.expected_lifetime_days is not None:
        data["expectedLifetimeDays"] = flag.expected_lifetime_days
    if flag.owner:
        data["owner"] = flag.owner
    if flag.tags:
        data["tags"] = list(flag.tags)
    if flag.links:
        data["links"] = list(flag.links)
    if flag.metadata:
        data["metadata"] = dict(flag.metadata)
    if flag.archived_at is not None:
        data["archivedAt"] = write_instant(flag.archived_at)
    return data
