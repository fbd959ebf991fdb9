"""A command line over a database of its own."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import typer
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


def ran(commands: typer.Typer, arguments: Sequence[str], *, text: str | None = None, **environment: str) -> Ran:
    """Run a command in this process, whose own FLAGSTAFF_ variables it is not told."""
    ours = {name: None for name in os.environ if name.startswith("FLAGSTAFF_")}
    code: Any = None
    with CliRunner().isolation(input=text, env={**ours, **environment}) as (out, err, _):
        try:
            command = _built(commands)
            command.main(arguments, prog_name=command.name or "flagstaff")
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        assert code is None or isinstance(code, int), code
        return Ran(code or 0, *(each.getvalue().decode().replace("\r\n", "\n") for each in (out, err)))


@functools.cache
def _built(commands: typer.Typer) -> Any:
    # Once, not for each run as typer's own runner does: it takes as long as a command itself.
    return typer.main.get_command(commands)


def running(database: Path) -> Run:
    """Run commands over a database in a file."""

    def call(*arguments: str | Path, text: str | None = None, **environment: str) -> Ran:
        told = {"FLAGSTAFF_DATABASE_URL": f"sqlite:///{database}", **environment}
        return ran(app, [str(each) for each in arguments], text=text, **told)

    return call


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command over a database in this test's directory."""
    return running(tmp_path / "flags.db")


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
def shop(tmp_path: Path, run: Run) -> Run:
    """A command line over the sample flags."""
    (tmp_path / "flags.db").write_bytes(_samples())
    return run


@functools.cache
def _samples() -> bytes:
    # Imported once, and copied for each test.
    with tempfile.TemporaryDirectory(prefix="flagstaff-") as directory:
        database = Path(directory) / "flags.db"
        assert 0 == running(database)("import", SAMPLES).code
        assert [database] == list(database.parent.iterdir())
        return database.read_bytes()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers in this test's directory, and stop them after it."""
    processes: list[subprocess.Popen[str]] = []
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}
    environment = {**ours, "PYTHONPATH": str(ROOT), "FLAGSTAFF_DATABASE_URL": f"sqlite:///{tmp_path / 'flags.db'}"}

    def begin(*options: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "server", "serve", *FREE_PORTS, *options]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()
