"""The room server/core is pure: values and decisions, and no effect."""

import ast

import pytest

from tests.house.sources import imported_modules, python_files, read

PURE_STANDARD_LIBRARY = {
    "__future__", "abc", "ast", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "difflib", "enum", "fractions", "functools", "graphlib", "hashlib", "heapq", "hmac",
    "ipaddress", "itertools", "json", "math", "numbers", "operator", "re", "statistics", "string", "struct",
    "textwrap", "types", "typing", "unicodedata", "urllib.parse",
}  # fmt: skip
# A hash of bytes, and JSON text of values: neither written in Python, nor with a state.
OTHERS = {"mmh3", "orjson"}
# Reading YAML is one module's job, so that one place chooses the safe loader and its bounds.
# What a time zone's clocks do is a table of rules that comes with the system or a package: read, never asked for the
# time. Recurrences are expanded by libraries that are handed their start. All of them could do more, so each is one
# module's job, too.
ONLY_IN = {
    "yaml": "server/core/definitions/yaml.py",
    "zoneinfo": "server/core/zones.py",
    "cronsim": "server/core/schedules/rules.py",
    "dateutil.rrule": "server/core/schedules/rules.py",
}

EFFECTS = {"open", "print", "input", "breakpoint", "__import__"}
CLOCKS = {"now", "utcnow", "today"}
CLOCK_OWNERS = {"datetime", "date"}


@pytest.mark.parametrize("name", python_files("server/core"))
def test_core_is_pure(name: str) -> None:
    """No clock, chance, log, file, socket, thread or database: they come in as arguments, or not at all."""
    assert [] == purity_problems(name, read(name))


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import random",
        "import logging",
        "from os import environ",
        "import sqlmodel",
        "import yaml",
        "from zoneinfo import ZoneInfo",
        "from dateutil.rrule import rrule",
        "import threading",
        "import urllib.request",
        "from urllib import request",
        "from pathlib import Path",
        "def late() -> None:\n    import socket",
        "print('x')",
        "text = open('x').read()",
        "from datetime import datetime\nat = datetime.now()",
        "import datetime\nat = datetime.datetime.now(datetime.UTC)",
        "from datetime import date\nclock = date.today",
    ],
)
def test_an_effect_is_found(source: str) -> None:
    """An effect is seen as an import or as a call."""
    assert 1 == len(purity_problems("server/core/flags.py", source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("server/core/definitions/yaml.py", "import yaml"),
        ("server/core/evaluation/bucketing.py", "import mmh3\nfrom urllib.parse import quote"),
        ("server/core/schedules.py", "def is_due(at: int, now: int) -> bool:\n    return now >= at"),
        ("server/core/flags.py", "from server.core.json import Json\nfrom . import limits"),
        ("server/core/flags.py", "from datetime import UTC, datetime\nat = datetime.fromtimestamp(0, UTC)"),
    ],
)
def test_pure_source_passes(name: str, source: str) -> None:
    """Values may be computed; a clock's reading may be an argument."""
    assert [] == purity_problems(name, source)


def purity_problems(name: str, source: str) -> list[str]:
    """One line for every import or use in a file of core that could have an effect."""
    imports = [
        f"{name}:{line}: core may not import {imported}"
        for line, imported in imported_modules(name, source)
        if not may_import(name, imported)
    ]
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name | ast.Attribute)]
    uses = [f"{name}:{node.lineno}: {what}" for node in names for what in effects_of(node)]
    return imports + uses


def may_import(name: str, imported: str) -> bool:
    """Whether a file of core may import this module, or this name of a module."""
    if any(is_within(imported, only) and name == where for only, where in ONLY_IN.items()):
        return True
    return any(is_within(imported, module) for module in PURE_STANDARD_LIBRARY | OTHERS | {"server.core"})


def is_within(imported: str, module: str) -> bool:
    """Whether an import is the module or stands in it."""
    return f"{imported}.".startswith(f"{module}.")


def effects_of(node: ast.Name | ast.Attribute) -> list[str]:
    """What is wrong with one name of a file: at most one thing."""
    match node:
        case ast.Name(id=name) if name in EFFECTS:
            return [f"core may not use {name}"]
        case ast.Attribute(value=owner, attr=attribute) if attribute in CLOCKS and last_name(owner) in CLOCK_OWNERS:
            return [f"core may not read a clock: {last_name(owner)}.{attribute}"]
    return []


def last_name(node: ast.expr) -> str:
    """The last word of a dotted name; "" for anything else."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
