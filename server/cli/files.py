"""Read and write the files that commands are given, `-` being standard input and output."""

import re
import sys
from pathlib import Path
from typing import Any, Final

from server.core.errors import InvalidRequest
from server.core.json import Json

STANDARD: Final = "-"

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./-]*")
_NOT_TEXT: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_WIDTH_CHARS: Final = 120


def read_file(name: str) -> bytes:
    """The bytes of a file, or of standard input for `-`. Errors: InvalidRequest."""
    if name == STANDARD:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {name}: {error.strerror or error}") from None


def write_file(name: str, text: str) -> None:
    """Write a text to a file, or to standard output for `-`. Errors: InvalidRequest."""
    if name == STANDARD:
        # A document is UTF-8, whatever the terminal is.
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.flush()
        return
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot write {name}: {error.strerror or error}") from None


def yaml_text(value: Json) -> str:
    """A JSON value as YAML that YAML 1.1 and 1.2 read alike: what could be taken for another type is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        plain = _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    Dumper.add_representer(str, represent)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH_CHARS)
