"""Keep named servers in a file, so that a command needs only a name."""

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import typer

from server.core.errors import InvalidRequest, NotFound

DEFAULT_NAME: Final = "default"
"""The profile that counts when none is named."""

_HEAD: Final = "# Servers by name, for `flagstaff --profile NAME`; `flagstaff profile set` writes this file.\n"
_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_NAME_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Profile:
    """How to reach one server, and what is meant where a command does not say; None is not said here either."""

    server: str | None = None
    token: str | None = None
    token_file: str | None = None
    tls: bool | None = None
    tls_ca: str | None = None
    tls_client_cert: str | None = None
    tls_client_key: str | None = None
    project: str | None = None
    environment: str | None = None


NO_PROFILE: Final = Profile()
_TYPES: Final = {field.name: bool if field.name == "tls" else str for field in fields(Profile)}


def default_path() -> Path:
    """Where the file is when nobody says: the directory for configuration of this platform."""
    return Path(typer.get_app_dir("flagstaff")) / "profiles.toml"


def read_profiles(path: Path) -> dict[str, Profile]:
    """Every profile of a file, by name; none when there is no file. Errors: InvalidRequest naming what is wrong."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidRequest(f"cannot read profiles from {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InvalidRequest(f"the profiles in {path} are not TOML: {error}") from None
    return {name: _profile(path, name, table) for name, table in tables.items()}


def find_profile(path: Path, name: str | None) -> Profile:
    """The profile of a name; without a name the one called `default`, if any. Errors: NotFound; InvalidRequest."""
    profiles = read_profiles(path)
    if name is None:
        return profiles.get(DEFAULT_NAME, NO_PROFILE)
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none yet"
        raise NotFound(f"profile {name!r} is not in {path}; there is: {known}")
    return profiles[name]


def write_profiles(path: Path, profiles: Mapping[str, Profile]) -> None:
    """Replace the file, readable by its owner alone. Errors: InvalidRequest when it cannot be written."""
    text = _HEAD + "".join(_table(name, profile) for name, profile in sorted(profiles.items()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp's file is its owner's alone from the start: it holds tokens.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidRequest(f"cannot write profiles to {path}: {error.strerror or error}") from None
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(name)
        raise InvalidRequest(f"cannot write profiles to {path}: {error.strerror or error}") from None


def check_name(name: str) -> None:
    """Errors: InvalidRequest for what cannot stand in the file as a plain name."""
    if not 1 <= len(name) <= _NAME_CHARS_MAX or not _NAME_CHARS.issuperset(name):
        raise InvalidRequest(
            f"profile name {name!r} is not allowed: 1 to {_NAME_CHARS_MAX} letters, digits, `-` and `_`"
        )


def _profile(path: Path, name: str, table: object) -> Profile:
    if not isinstance(table, dict):
        raise InvalidRequest(f"{path}: {name!r} stands outside of any profile; begin one with a line like [production]")
    for key, value in table.items():
        if key not in _TYPES:
            raise InvalidRequest(f"{path}: profile {name!r} has {key!r}, expected some of: {', '.join(_TYPES)}")
        if type(value) is not _TYPES[key]:
            raise InvalidRequest(f"{path}: {key} of profile {name!r} is not a {_TYPES[key].__name__}")
    return Profile(**table)


def _table(name: str, profile: Profile) -> str:
    return "".join([f"\n[{name}]\n", *_lines(profile)])


def _lines(profile: Profile) -> Iterator[str]:
    for field in fields(Profile):
        value = getattr(profile, field.name)
        if value is not None:
            # A JSON string is a TOML string but for this one character.
            yield f"{field.name} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
