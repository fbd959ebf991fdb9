"""Find the files that the house rules speak of."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("server", "webhooks", "protos", "tests", "scripts")
# What tools leave behind or fetch; nothing in them is ours.
FOREIGN = {"__pycache__", "node_modules", "target", "build", "dist", ".hypothesis"}


def python_files(*rooms: str) -> list[str]:
    """The handwritten Python files of these rooms, or of all, as paths from the root."""
    return [name for name in _files(rooms or ROOMS) if _is_python(name) and not is_generated(name)]


def markdown_files() -> list[str]:
    """All Markdown files, as paths from the root."""
    top = sorted(path.name for path in ROOT.glob("*.md"))
    return top + [name for name in _files(ROOMS) if name.endswith(".md")]


def read(name: str) -> str:
    """The text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def is_generated(name: str) -> bool:
    """Whether scripts/generate-protos writes this file."""
    return name.endswith(("_pb2.py", "_pb2_grpc.py"))


def imported_modules(name: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in the file it does so.

    `from a import b` gives a.b: b may be a module, and only its full name says in which room it stands.
    """
    package = Path(name).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = [*above, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*origin, alias.name])) for alias in node.names)


def _files(rooms: tuple[str, ...]) -> list[str]:
    found = []
    for room in rooms:
        for directory, below, names in os.walk(ROOT / room):
            below[:] = sorted(name for name in below if name not in FOREIGN and not name.endswith(".egg-info"))
            found += [Path(directory, name).relative_to(ROOT).as_posix() for name in sorted(names)]
    return found


def _is_python(name: str) -> bool:
    if name.endswith(".py"):
        return True
    if not name.startswith("scripts/") or "." in name:
        return False
    with (ROOT / name).open("rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and b"python" in first
