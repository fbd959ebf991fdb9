"""Read a segment from JSON of ours, and write it."""

from typing import Any, Final

from server.core.definitions.fields import (
    check_fields,
    key_problem,
    read_flag_value,
    read_key,
    read_object,
    read_text,
    read_texts,
)
from server.core.definitions.problems import Path, Problems
from server.core.definitions.targeting import check_rule
from server.core.flags import TARGETING_KEY
from server.core.json import Json
from server.core.limits import CONTEXT_VALUE_BYTES_MAX, LIST_ITEMS_MAX
from server.core.segments import Segment

_FIELDS: Final = frozenset({"condition", "keys", "keyAttribute", "description", "lenient"})


def read_segment(key: str, data: Json, *, problems: Problems, path: Path, lenient: bool = False) -> Segment | None:
    """Read a segment: a condition, or a list of keys; None when there was an error."""
    before = len(problems.errors)
    if problem := key_problem(key):
        problems.error(path, problem)
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    check_fields(fields, _FIELDS, path=path, problems=problems, lenient=lenient)
    condition, keys = fields.get("condition"), fields.get("keys")
    if (condition is None) is (keys is None):
        problems.error(path, "a segment has either a condition or keys")
    if condition is not None and "keyAttribute" in fields:
        problems.error((path, "keyAttribute"), "belongs to a list of keys, this segment has a condition")
    marked = "lenient" in fields and read_flag_value(fields, "lenient", False, path=path, problems=problems)
    segment = _segment(key, fields, problems=problems, path=path, lenient=marked or lenient)
    return segment if len(problems.errors) == before else None


def _segment(key: str, fields: dict[str, Json], *, problems: Problems, path: Path, lenient: bool) -> Segment:
    description = read_text(fields, "description", path=path, problems=problems)
    marked = fields.get("lenient") is True
    if fields.get("keys") is None:
        return read_condition(
            key,
            fields.get("condition"),
            description=description,
            problems=problems,
            path=(path, "condition"),
            lenient=lenient,
            marked=marked,
        )
    keys = read_texts(
        fields, "keys", path=path, problems=problems, items_max=LIST_ITEMS_MAX, chars_max=CONTEXT_VALUE_BYTES_MAX
    )
    what = "attribute's name"
    attribute = read_key(fields, "keyAttribute", path=path, problems=problems, default=TARGETING_KEY, what=what)
    return Segment(key, keys=keys, key_attribute=attribute, description=description, lenient=marked)


def read_condition(
    key: str,
    condition: Json,
    *,
    problems: Problems,
    path: Path,
    lenient: bool,
    description: str = "",
    marked: bool = False,
) -> Segment:
    """A segment of one condition, checked; it is marked lenient when it was before, or when there was a warning."""
    kept = problems.kept
    check_rule(condition, path=path, problems=problems, lenient=lenient)
    lenient = marked or problems.kept > kept
    return Segment(key, condition=condition, description=description, lenient=lenient)


def write_segment(segment: Segment) -> dict[str, Any]:
    """Write a segment; fields that have their default value are left out."""
    data: dict[str, Any] = {}
    if segment.keys is None:
        data["condition"] = segment.condition
    else:
        data["keys"] = list(segment.keys)
        if segment.key_attribute != TARGETING_KEY:
            data["keyAttribute"] = segment.key_attribute
    if segment.description:
        data["description"] = segment.description
    if segment.lenient:
        data["lenient"] = True
    return data
