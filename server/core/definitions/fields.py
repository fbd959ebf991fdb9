"""Read the small parts that all definitions share: keys, texts, metadata, unknown fields."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from server.core.definitions.problems import Path, Problems, names, shown
from server.core.definitions.targeting import WHOLE_NUMBER_MAX, number_problem
from server.core.json import Json, Scalar
from server.core.limits import KEY_CHARS_MAX, METADATA_ENTRIES_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


def key_problem(key: Json, what: str = "key") -> str:
    """What is wrong with the key of a flag, segment, variant or rule: "" for nothing."""
    if type(key) is str and 0 < len(key) <= KEY_CHARS_MAX and key.isprintable() and key[0] != " " != key[-1]:
        return ""
    # Less usual: a key that is wrong, or one with a character that does not print, such as a no-break space.
    if type(key) is not str:
        return f"a {what} is a text, not {shown(key)}"
    if not 1 <= len(key) <= KEY_CHARS_MAX:
        return f"the {what} has {len(key)} characters, expected 1 to {KEY_CHARS_MAX}"
    if _CONTROL.search(key):
        return f"the {what} has a control character"
    if key[0].isspace() or key[-1].isspace():
        return f"the {what} begins or ends with a blank"
    return ""


def name_problem(name: Json) -> str:
    """What is wrong with the key of a project or environment: "" for nothing."""
    if isinstance(name, str) and len(name) <= NAME_CHARS_MAX and _NAME.fullmatch(name):
        return ""
    wanted = f"1 to {NAME_CHARS_MAX} of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit"
    return f"{shown(name)} does not name a project or environment; use {wanted}"


def check_fields(
    data: Mapping[str, Json], known: frozenset[str], *, path: Path, problems: Problems, lenient: bool = False
) -> None:
    """Report every field that is not known. A lenient reader drops it."""
    if data.keys() <= known:
        return
    for name in data:
        if name not in known:
            problems.warn(
                (path, name), f"unknown field{problems.suggestion(str(name), known)}", lenient=lenient, dropped=True
            )


def read_object(data: Json, *, path: Path, problems: Problems) -> dict[str, Json] | None:
    """An object; None, and a problem, for anything else."""
    if isinstance(data, dict):
        return data
    problems.error(path, f"expected an object, not {shown(data)}")
    return None


def read_list(data: Mapping[str, Json], name: str, *, path: Path, problems: Problems, items_max: int) -> list[Json]:
    """A list of bounded length; empty when it is absent."""
    value = data.get(name)
    if value is None:
        return []
    if type(value) is not list:
        problems.error((path, name), f"expected a list, not {shown(value)}")
        return []
    if len(value) > items_max:
        problems.error((path, name), f"the list has {len(value)} items, at most {items_max} are allowed")
        return []
    return value


def read_text(data: Mapping[str, Json], name: str, *, path: Path, problems: Problems) -> str:
    """Prose of bounded length; "" when it is absent."""
    value = data.get(name)
    if value is None:
        return ""
    if type(value) is str and len(value) <= TEXT_CHARS_MAX:
        return value
    problems.error((path, name), _text_problem(value))
    return ""


def _text_problem(value: Json) -> str:
    if isinstance(value, str):
        return f"the text has {len(value)} characters, at most {TEXT_CHARS_MAX} are allowed"
    return f"expected a text, not {shown(value)}"


def read_key(
    data: Mapping[str, Json], name: str, *, path: Path, problems: Problems, default: str, what: str = "key"
) -> str:
    """A text that names something; the default when it is absent."""
    value = data.get(name)
    if value is None:
        return default
    if problem := key_problem(value, what):
        problems.error((path, name), problem)
        return default
    key: str = value
    return key


def read_flag_value(data: Mapping[str, Json], name: str, default: bool, *, path: Path, problems: Problems) -> bool:
    """True or false; the default when it is absent."""
    value = data.get(name, default)
    if type(value) is bool:
        return value
    problems.error((path, name), f"expected true or false, not {shown(value)}")
    return default


def read_texts(
    data: Mapping[str, Json], name: str, *, path: Path, problems: Problems, items_max: int, chars_max: int
) -> tuple[str, ...]:
    """A list of different, non-empty texts."""
    values = read_list(data, name, path=path, problems=problems, items_max=items_max)
    if not values:
        return ()
    # The usual case at C speed: key lists have thousands of items.
    is_usual = set(map(type, values)) == {str} and len(set(values)) == len(values)
    if is_usual and "" not in values and max(map(len, values)) <= chars_max:
        return tuple(values)
    seen: set[str] = set()
    for index, value in enumerate(values):
        if type(value) is not str:
            problems.error(((path, name), index), _not_text(value))
        elif not 1 <= len(value) <= chars_max:
            problems.error(((path, name), index), f"the text has {len(value)} characters, expected 1 to {chars_max}")
        elif value in seen:
            problems.error(((path, name), index), f"{shown(value)} stands twice")
        else:
            seen.add(value)
    return ()


def _not_text(value: Json) -> str:
    quoted = f'; write it as text, "{value}"' if type(value) in (int, float) else ""
    return f"expected a text, not {shown(value)}{quoted}"


def read_choice(
    data: Mapping[str, Json], name: str, choices: Mapping[str, Json], *, path: Path, problems: Problems, default: Json
) -> Json:
    """One of a closed set, by its written form; the default when it is absent."""
    value = data.get(name)
    if value is None:
        return default
    if type(value) is str and value in choices:
        return choices[value]
    problems.error((path, name), f"{shown(value)} is not one of: {names(choices)}")
    return default


def read_instant(data: Mapping[str, Json], name: str, *, path: Path, problems: Problems) -> datetime | None:
    """An instant with its time zone, as UTC; None when it is absent."""
    value = data.get(name)
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    problems.error((path, name), f"{shown(value)} is not an instant with its time zone, such as 2026-01-31T12:00:00Z")
    return None


def write_instant(instant: datetime) -> str:
    """An instant as `read_instant` reads it."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_metadata(data: Mapping[str, Json], *, path: Path, problems: Problems, lenient: bool) -> dict[str, Scalar]:
    """Texts, numbers and booleans by name. A lenient reader drops what is none of these."""
    value = data.get("metadata")
    if not value and (value is None or type(value) is dict):
        return {}
    at = (path, "metadata")
    if type(value) is not dict:
        problems.warn(at, f"expected an object, not {shown(value)}", lenient=lenient, dropped=True)
        return {}
    if len(value) > METADATA_ENTRIES_MAX:
        problems.error(at, f"metadata has {len(value)} entries, at most {METADATA_ENTRIES_MAX} are allowed")
        return {}
    return {
        name: entry
        for name, entry in value.items()
        if _is_metadata(name, entry, path=(at, name), problems=problems, lenient=lenient)
    }


def _is_metadata(name: Json, value: Json, *, path: Path, problems: Problems, lenient: bool) -> bool:
    if problem := key_problem(name):
        problems.error(path, problem)
    if type(value) is str:
        if len(value) > TEXT_CHARS_MAX:
            problems.error(path, _text_problem(value))
    elif type(value) in (int, float):
        if problem := number_problem(value):
            problems.error(path, problem)
        elif type(value) is int and abs(value) > WHOLE_NUMBER_MAX:
            problems.warn(path, f"{value} is beyond {WHOLE_NUMBER_MAX}; write it as text", lenient=lenient)
    elif type(value) is not bool:
        message = f"metadata holds texts, numbers and booleans, not {shown(value)}"
        problems.warn(path, message, lenient=lenient, dropped=True)
        return False
    return True
