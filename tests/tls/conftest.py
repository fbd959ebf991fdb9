"""An authority for all tests, and servers that it proves."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from tests.tls.certificates import Authority, make_authority

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 90.0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs what these tests serve with."""
    return make_authority(tmp_path_factory.mktemp("certificates"))


Start: TypeAlias = Callable[..., subprocess.Popen[str]]
"""(*options) -> the process of a server with the sample flags."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers on free ports, and kill them after the test."""
    processes: list[subprocess.Popen[str]] = []
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}
    environment = {**ours, "PYTHONPATH": str(ROOT), "FLAGSTAFF_DATABASE_URL": f"sqlite:///{tmp_path / 'flags.db'}"}

    def begin(*options: str) -> subprocess.Popen[str]:
        ports = ("--grpc-port=0", "--sync-port=0", "--http-port=0", "--drain-delay=0")
        command = [sys.executable, "-m", "server", "serve", "--demo", "--json", *ports, *options]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def serving(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line that says where it serves."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    told: dict[str, Any] = json.loads(line)
    return told
