"""Say how each client driver is started, and install from its registry what a driver needs."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

CLIENTS: Final = Path(__file__).parent / "clients"
CACHE_VARIABLE: Final = "FLAGSTAFF_CLIENTS_CACHE"
INSTALL_TIMEOUT_S: Final = 600
NETWORK_WORDS: Final = (
    "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ETIMEDOUT", "ERR_SOCKET_TIMEOUT",
    "Unknown host", "UnknownHostException", "Connection refused", "Network is unreachable", "timed out",
    "Could not transfer", "no such host", "i/o timeout", "connection refused", "TLS handshake timeout",
)  # fmt: skip
"""What npm, Maven and Go write when the registry cannot be reached; any other failure is ours to mend."""

TOO_OLD: Final = "go.mod requires go >="


class Unavailable(Exception):
    """The client cannot be had here: a tool is missing, or its registry cannot be reached."""


def python_command() -> list[str]:
    """The official Python provider, from the environment that runs the tests."""
    return [sys.executable, str(CLIENTS / "python" / "driver.py")]


def wire_command() -> list[str]:
    """Bare gRPC calls with our own stubs."""
    return [sys.executable, str(CLIENTS / "wire" / "driver.py")]


def node_command() -> list[str]:
    """The official Node provider. Errors: Unavailable; AssertionError when npm fails for another reason."""
    node, npm = tool("node"), tool("npm")
    sources = [CLIENTS / "node" / name for name in ("package.json", "package-lock.json")]
    folder = _installed("node", sources, command=[npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"])
    return [node, str(CLIENTS / "node" / "driver.mjs"), str(folder)]


def java_command() -> list[str]:
    """The official Java provider. Errors: Unavailable; AssertionError when Maven fails for another reason."""
    java, maven = tool("java"), tool("mvn")
    sources = [CLIENTS / "java" / name for name in ("pom.xml", "Driver.java")]
    folder = _installed("java", sources, command=[maven, "--batch-mode", "--quiet", "compile"])
    classpath = os.pathsep.join([str(folder / "target" / "classes"), str(folder / "target" / "libraries" / "*")])
    # Small and quick to start: the client's own speed is not what is looked at.
    return [java, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", classpath, "Driver"]


def go_command() -> list[str]:
    """The official Go provider. Errors: Unavailable; AssertionError when the build fails for another reason."""
    go = tool("go")
    sources = [CLIENTS / "go" / name for name in ("main.go", "go.mod", "go.sum")]
    folder = _installed("go", sources, command=[go, "build", "-o", "driver", "."])
    return [str(folder / "driver")]


COMMANDS: Final[Mapping[str, Callable[[], list[str]]]] = {
    "python": python_command,
    "wire": wire_command,
    "node": node_command,
    "java": java_command,
    "go": go_command,
}

RPC_CLIENTS: Final = ("python", "wire", "node", "java")
"""Clients that evaluate over gRPC. Go's provider speaks Connect there."""

IN_PROCESS_CLIENTS: Final = ("python", "node", "java", "go")
"""Clients that are sent the flags, with the option `"resolver": "in-process"`."""


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


def tool(name: str) -> str:
    """The path of a command. Errors: Unavailable when it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return path


def _installed(client: str, sources: list[Path], *, command: list[str]) -> Path:
    """The folder in the cache where `command` has been run over a copy of the sources; made when it is not there."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = _cache() / f"{client}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits: tests run in several processes, and a build takes a minute.
    with (folder.with_name(f"{folder.name}.lock")).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _build(folder, sources, command)
    return folder


def _build(folder: Path, sources: list[Path], command: list[str]) -> None:
    # Built beside and renamed, so that a broken build leaves no half folder.
    building = folder.with_name(f"{folder.name}.{os.getpid()}")
    building.mkdir()
    try:
        for path in sources:
            shutil.copy(path, building)
        _run(command, building)
        (building / "complete").touch()
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            timeout=INSTALL_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} did not finish within {INSTALL_TIMEOUT_S} s") from error
    output = done.stdout + done.stderr
    reasons = [line.strip() for line in output.splitlines() if any(word in line for word in NETWORK_WORDS)]
    if done.returncode != 0 and reasons:
        raise Unavailable(f"its registry cannot be reached: {reasons[0][:200]}")
    if done.returncode != 0 and TOO_OLD in output:
        raise Unavailable(f"{command[0]} is too old: {output.strip()[:200]}")
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{output[-4000:]}"


def _cache() -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flagstaff" / "clients"
