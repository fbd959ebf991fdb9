"""The README's tour, followed in an empty directory with a new virtual environment."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.ports import low_ports
from tests.stories.blocks import REFUSED, RUN, SERVE, Block, read_blocks

ROOT: Final = Path(__file__).resolve().parents[2]
PORTS: Final = {"8013": "FLAGSTAFF_GRPC_PORT", "8015": "FLAGSTAFF_SYNC_PORT", "8016": "FLAGSTAFF_HTTP_PORT"}
COMMAND_TIMEOUT_S: Final = 600.0
READY_TIMEOUT_S: Final = 60.0
NOT_COPIED: Final = shutil.ignore_patterns(
    ".git",
    ".venv",
    "build",
    "dist",
    "node_modules",
    "target",
    "tests",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    "*.db*",
)


def test_the_tour_works_as_written(tmp_path: Path) -> None:
    """Every block to run ends as it should, and prints what stands below it."""
    if os.environ.get("CI") != "true" and os.environ.get("FLAGSTAFF_STORIES") != "1":
        pytest.skip("installs into a new virtual environment; FLAGSTAFF_STORIES=1 runs it outside of CI")
    # Copied: an installation leaves its traces in the directory that it builds from.
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=NOT_COPIED)
    (tmp_path / "tour").mkdir()
    free = dict(zip(PORTS, map(str, low_ports(len(PORTS))), strict=True))
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    reader = Reader(tmp_path / "tour", tmp_path / "checkout", free)

    with reader.leaving_nothing():
        told = [(block.printed, reader.follow(block)) for block in read_blocks(page)]

    assert [printed for printed, _ in told if printed is not None] == [
        actual for printed, actual in told if printed is not None
    ]


def test_the_tour_is_found() -> None:
    """The README has something to install, to serve, to run and to see refused, and says what is printed."""
    blocks = read_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    after = [block for block in blocks[2:] if block.kind in (RUN, REFUSED)]

    assert [RUN, SERVE] == [block.kind for block in blocks[:2]]
    assert {RUN, REFUSED} == {block.kind for block in after}
    assert [] == [block.commands for block in after if block.printed is None]


def test_only_a_text_that_follows_at_once_belongs_to_a_block() -> None:
    """Words between a block and a text part them, and other languages are not run."""
    page = "```sh run\na\n```\n\n```text\n1\n```\n\n```sh run\nb\n```\nwords\n```text\n2\n```\n```js\nc\n```\n"

    assert [Block(RUN, "a\n", "1\n"), Block(RUN, "b\n", None)] == read_blocks(page)


class Reader:
    """Somebody who follows the page with two terminals."""

    def __init__(self, directory: Path, checkout: Path, ports: dict[str, str]) -> None:
        self.directory, self.ports = directory, ports
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("FLAGSTAFF", "PYTHON"))}
        told = {PORTS[written]: port for written, port in ports.items()}
        self.environment = {**ours, **told, "FLAGSTAFF": str(checkout), "COLUMNS": "200", "PYTHONUTF8": "1"}
        # The provider's own deadline of half a second is right for a reader's machine, not for a busy one.
        self.environment["FLAGD_DEADLINE_MS"] = "10000"
        # Where the page's commands would find it by themselves, on another port.
        self.environment["FLAGSTAFF_SERVER"] = f"localhost:{ports['8013']}"
        self.server: subprocess.Popen[bytes] | None = None

    @contextmanager
    def leaving_nothing(self) -> Iterator[None]:
        """Stop the server at the end, whatever happened."""
        try:
            yield
        finally:
            if self.server is not None:
                os.killpg(self.server.pid, signal.SIGTERM)
                self.server.wait(READY_TIMEOUT_S)

    def follow(self, block: Block) -> str:
        """Type a block's commands; what they print. Errors: AssertionError when they end otherwise than they should."""
        commands = f"set -eu\n[ ! -e venv ] || . venv/bin/activate\n{self.with_free_ports(block.commands)}"
        if block.kind == SERVE:
            self.serve(commands)
            return ""
        done = subprocess.run(
            ["bash", "-c", commands],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert (1 if block.kind == REFUSED else 0) == done.returncode, f"{block.commands}\n{done.stdout}"
        return done.stdout

    def serve(self, commands: str) -> None:
        """Start the server and wait until it can evaluate."""
        log = self.directory.parent / "server.log"
        with log.open("wb") as output:
            self.server = subprocess.Popen(
                ["bash", "-c", commands],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until = time.monotonic() + READY_TIMEOUT_S
        while not is_ready(self.ports["8016"]):
            assert self.server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def with_free_ports(self, text: str) -> str:
        """The text with ports that nobody uses on this machine, the one thing that is not taken by the word."""
        for written, port in self.ports.items():
            text = text.replace(written, port)
        return text


def is_ready(port: str) -> bool:
    """Whether the server says that it can evaluate."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply:
            return bool(json.load(reply)["ready"])
    except (urllib.error.URLError, ConnectionError):
        return False
