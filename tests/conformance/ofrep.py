"""Start the official OFREP clients, each as a process of its own, over the HTTP port of a server."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import pytest

from tests.conformance import installations
from tests.conformance.installations import CLIENTS, Unavailable, tool

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


def python_command() -> list[str]:
    """The official Python provider, from the environment that runs the tests."""
    return [sys.executable, str(CLIENTS / "ofrep-python" / "driver.py")]


def node_command() -> list[str]:
    """The official Node provider. Errors: Unavailable; AssertionError when npm fails for another reason."""
    node, npm = tool("node"), tool("npm")
    sources = [CLIENTS / "ofrep-node" / name for name in ("package.json", "package-lock.json")]
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    folder = installations._installed("ofrep-node", sources, command=command)
    return [node, str(CLIENTS / "ofrep-node" / "driver.mjs"), str(folder)]


def web_command() -> list[str]:
    """The official web provider in a headless browser. Errors: as with `node_command`."""
    node, browser = tool("node"), _browser()
    tool("npm")
    sources = [CLIENTS / "ofrep-web" / name for name in ("package.json", "package-lock.json", "page.js")]
    script = "npm ci --no-audit --no-fund --ignore-scripts && npm run --silent bundle"
    folder = installations._installed("ofrep-web", sources, command=["sh", "-c", script])
    return [node, str(CLIENTS / "ofrep-web" / "driver.mjs"), str(folder), browser]


COMMANDS: Final[Mapping[str, Callable[[], list[str]]]] = {
    "ofrep-python": python_command,
    "ofrep-node": node_command,
    "ofrep-web": web_command,
}


def command(client: str) -> list[str]:
    """How a client is started. Where it cannot be had the test is skipped; in CI it fails."""
    found = _found(client)
    if isinstance(found, list):
        return found
    # In CI nothing is left out in silence.
    if os.environ.get("CI") == "true":
        raise found
    pytest.skip(f"the {client} client cannot be had here: {found}")


@cache
def _found(client: str) -> list[str] | Unavailable:
    # A registry that cannot be reached is asked once, not once a case.
    try:
        return COMMANDS[client]()
    except Unavailable as error:
        return error


def _browser() -> str:
    for name in BROWSERS:
        try:
            return tool(name)
        except Unavailable:
            continue
    raise Unavailable(f"none of {', '.join(BROWSERS)} is installed")
