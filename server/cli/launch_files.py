"""Read a launch plan that somebody has written as JSON or YAML."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.core.json import Json
from server.core.zones import first_instant, zone, zone_problem

if TYPE_CHECKING:
    from protos.flagstaff.v1.launch_plans_pb2 import LaunchPlanSpec

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FIELDS: Final = (
    "name", "description", "owner", "timeZone", "launchAt", "businessHours", "closures", "outside", "missed", "moved",
    "grace", "remindBefore", "checks", "items",
)  # fmt: skip
_CHOICES: Final = ("outside", "missed", "moved")
_LENGTHS: Final = ("grace", "remindBefore")


def read_plan_file(text: bytes, *, name: str, project: str) -> "LaunchPlanSpec":
    """What a file asks for. Errors: InvalidDefinition with the paths of what is wrong; InvalidRequest."""
    from google.protobuf.json_format import ParseDict, ParseError

    from protos.flagstaff.v1 import launch_plans_pb2 as messages
    from server.core.definitions.text import parse_text

    document = parse_text(text, name=name)
    if not isinstance(document, dict):
        raise InvalidDefinition([Problem("", "is not an object with name, timeZone, launchAt and items")])
    _refuse_unknown(document, _FIELDS, "")
    given = dict(document)
    place = str(given.get("timeZone", ""))
    for key in _CHOICES:
        if key in given:
            given[key] = f"{key.upper()}_{str(given[key]).upper()}"
    for key in _LENGTHS:
        if key in given:
            given[key] = f"{_seconds(given[key], f'/{key}')}s"
    if "launchAt" in given:
        given["launchAt"] = _instant(given["launchAt"], place, "/launchAt")
    given["closures"] = [
        {**each, **{key: _instant(each.get(key), place, f"/closures/{index}/{key}") for key in ("startsAt", "endsAt")}}
        for index, each in enumerate(_objects(given, "closures"))
    ]
    given["items"] = [_item(each, project, f"/items/{index}") for index, each in enumerate(_objects(given, "items"))]
    try:
        return ParseDict(given, messages.LaunchPlanSpec())
    except ParseError as error:
        raise InvalidRequest(f"{name}: {error}") from None


def read_instant(text: str, place: str) -> datetime:
    """An instant with its time zone, or else a local time in a zone. Errors: InvalidRequest."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no time such as 2026-12-01T09:00 or 2026-12-01T09:00:00Z") from None
    if instant.tzinfo is None:
        if told := zone_problem(place):
            raise InvalidRequest(told)
        return first_instant(instant, zone(place))
    return instant.astimezone(UTC)


def read_length(text: str) -> int:
    """Seconds of `90s`, `30m`, `-2h` or `1d`. Errors: InvalidRequest."""
    match = re.fullmatch(r"(-?\d{1,7})([smhd])", text)
    if match is None:
        raise InvalidRequest(f"{text!r} is no length of time such as 30m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def _item(item: dict[str, Any], project: str, path: str) -> dict[str, Any]:
    """`at`, `do` and `start`, as people write them, in the words of the API."""
    _refuse_unknown(item, ("id", "title", "at", "do", "start"), path)
    writes = [_write(each, project, f"{path}/do/{index}") for index, each in enumerate(_objects(item, "do", path))]
    given = {"id": item.get("id"), "title": item.get("title", ""), "offset": item.get("at", "")}
    return {**given, "writes": writes, "startRelease": item.get("start", "")}


def _write(write: dict[str, Any], project: str, path: str) -> dict[str, Any]:
    """`{EnableFlags: {environment: production, keys: [new-ui]}}` as the request that it names."""
    from google.protobuf.descriptor_pool import Default

    # Loaded for their messages: what is not loaded is not known by its name.
    from protos.flagstaff.v1 import environments_pb2, flags_pb2, history_pb2, segments_pb2  # noqa: F401

    if len(write) != 1:
        raise InvalidDefinition(
            [Problem(path, "is not one call, such as EnableFlags: {environment: staging, keys: [a]}")]
        )
    ((call, fields),) = write.items()
    full_name = f"flagstaff.v1.{call}Request"
    try:
        Default().FindMessageTypeByName(full_name)
    except KeyError:
        raise InvalidDefinition([Problem(f"{path}/{call}", "is no call of the API that changes something")]) from None
    if not isinstance(fields, dict):
        raise InvalidDefinition([Problem(f"{path}/{call}", "is not an object")])
    return {"@type": f"type.googleapis.com/{full_name}", "project": project, **fields}


def _objects(given: dict[str, Any], key: str, path: str = "") -> list[dict[str, Any]]:
    found = given.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidDefinition([Problem(f"{path}/{key}", "is not a list of objects")])
    return found


def _refuse_unknown(given: dict[str, Any], known: tuple[str, ...], path: str) -> None:
    problems = [
        Problem(f"{path}/{key}", f"unknown; there are: {', '.join(known)}") for key in given if key not in known
    ]
    if problems:
        raise InvalidDefinition(problems)


def _instant(value: Json, place: str, path: str) -> str:
    try:
        return read_instant(str(value), place).isoformat()
    except InvalidRequest as error:
        raise InvalidDefinition([Problem(path, str(error))]) from None


def _seconds(value: Json, path: str) -> int:
    try:
        return read_length(str(value))
    except InvalidRequest as error:
        raise InvalidDefinition([Problem(path, str(error))]) from None
