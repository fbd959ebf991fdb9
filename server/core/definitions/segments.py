"""Read a segment from JSON of ours, and write it."""

from dataclasses import replace
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
from server.core.definitions.problems import Path, Problems, shown
from server.core.definitions.targeting import check_rule
from server.core.errors import FlagstaffError
from server.core.flags import TARGETING_KEY
from server.core.json import Json
from server.core.keylists import KeyList, key_list
from server.core.limits import CONTEXT_VALUE_BYTES_MAX, KEYS_PER_SEGMENT_MAX, LIST_ITEMS_MAX
from server.core.segments import Segment

_FIELDS: Final = frozenset({"condition", "keys", "keyAttribute", "description", "lenient"})
_STORED_FIELDS: Final = _FIELDS | {"keyList"}
_HEAD: Final = ("count", "digest")


def read_segment(
    key: str, data: Json, *, problems: Problems, path: Path, lenient: bool = False, stored: bool = False
) -> Segment | None:
    """Read a segment: a condition, or a list of keys; None when there was an error.

    A stored one may say of its keys only how many they are and their digest; then they are not at hand.
    """
    before = len(problems.errors)
    if problem := key_problem(key):
        problems.error(path, problem)
    fields = read_object(data, path=path, problems=problems)
    if fields is None:
        return None
    is_head = stored and "keyList" in fields
    check_fields(fields, _STORED_FIELDS if stored else _FIELDS, path=path, problems=problems, lenient=lenient)
    condition, keys = fields.get("condition"), fields.get("keys")
    if [condition is None, keys is None, not is_head].count(False) != 1:
        problems.error(path, "a segment has either a condition or keys")
    if condition is not None and "keyAttribute" in fields:
        problems.error((path, "keyAttribute"), "belongs to a list of keys, this segment has a condition")
    marked = "lenient" in fields and read_flag_value(fields, "lenient", False, path=path, problems=problems)
    segment = _segment(key, fields, is_head=is_head, problems=problems, path=path, lenient=marked or lenient)
    return segment if len(problems.errors) == before else None


def _segment(
    key: str, fields: dict[str, Json], *, is_head: bool, problems: Problems, path: Path, lenient: bool
) -> Segment:
    description = read_text(fields, "description", path=path, problems=problems)
    marked = fields.get("lenient") is True
    if fields.get("keys") is None and not is_head:
        return read_condition(
            key,
            fields.get("condition"),
            description=description,
            problems=problems,
            path=(path, "condition"),
            lenient=lenient,
            marked=marked,
        )
    what = "attribute's name"
    attribute = read_key(fields, "keyAttribute", path=path, problems=problems, default=TARGETING_KEY, what=what)
    segment = Segment(key, key_attribute=attribute, description=description, lenient=marked)
    if is_head:
        return replace(segment, key_list=_read_head(fields["keyList"], (path, "keyList"), problems))
    keys = read_texts(
        fields, "keys", path=path, problems=problems, items_max=KEYS_PER_SEGMENT_MAX, chars_max=CONTEXT_VALUE_BYTES_MAX
    )
    if len(keys) <= LIST_ITEMS_MAX:
        return replace(segment, keys=keys)
    try:
        return replace(segment, key_list=key_list(keys))
    except FlagstaffError as error:
        problems.error((path, "keys"), str(error))
        return segment


def _read_head(data: Json, path: Path, problems: Problems) -> KeyList:
    match data:
        case {"count": int(count), "digest": str(digest)} if len(data) == len(_HEAD) and count > LIST_ITEMS_MAX:
            return KeyList(count, digest)
    problems.error(path, f"expected more than {LIST_ITEMS_MAX} keys by their count and digest, not {shown(data)}")
    return KeyList(0, "")


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
    """Write a segment as it is stored: of a large one's keys only their count and digest, which revisions keep.

    Fields that have their default value are left out.
    """
    data: dict[str, Any] = {}
    if segment.key_list is not None:
        data["keyList"] = {"count": segment.key_list.count, "digest": segment.key_list.digest}
    elif segment.keys is not None:
        data["keys"] = list(segment.keys)
    else:
        data["condition"] = segment.condition
    if segment.condition is None and segment.key_attribute != TARGETING_KEY:
        data["keyAttribute"] = segment.key_attribute
    if segment.description:
        data["description"] = segment.description
    if segment.lenient:
        data["lenient"] = True
    return data


def write_whole_segment(segment: Segment) -> dict[str, Any]:
    """Write a segment with all its keys, also a large one. Errors: LookupError when its keys are not at hand."""
    data = write_segment(segment)
    return data if segment.key_list is None else {"keys": sorted(segment.key_list), **_without_head(data)}


def _without_head(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "keyList"}
