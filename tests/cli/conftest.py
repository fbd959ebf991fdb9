"""A command line over a database of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from typer.testing import CliRunner

from server.cli.main import app
from tests.cli.servers import FREE_PORTS, ROOT, Start

SAMPLES: Final = Path(__file__).resolve().parents[2] / "server/samples/shop.yaml"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, read as JSON."""
        return json.loads(self.out)


Run: TypeAlias = Callable[..., Ran]
"""(*arguments, text to read, environment) -> what the command did."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command over a database in this test's directory."""
    runner = CliRunner()
    ours = {name: None for name in os.environ if name.startswith("FLAGSTAFF_")}

    def call(*arguments: str | Path, text: str | None = None, **environment: str) -> Ran:
        database = {"FLAGSTAFF_DATABASE_URL": f"sqlite:///{tmp_path / 'flags.db'}"}
        told = {**ours, **database, **environment}
        result = runner.invoke(app, [str(each) for each in arguments], input=text, env=told)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call


Write: TypeAlias = Callable[[str, Any], str]
"""(name, document) -> the path of the file."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Put a document into a file of this test's directory."""

    def put(name: str, document: Any) -> str:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return str(path)

    return put


@pytest.fixture
def shop(run: Run) -> Run:
    """A command line over the sample flags."""
    assert 0 == run("import", SAMPLES).code
    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers in this test's directory, and stop them after it."""
    processes: list[subprocess.Popen[str]] = []
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}
    environment = {**ours, "PYTHONPATH": str(ROOT), "FLAGSTAFF_DATABASE_URL": f"sqlite:///{tmp_path / 'flags.db'}"}

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "server", "serve", *FREE_PORTS, *options]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()
