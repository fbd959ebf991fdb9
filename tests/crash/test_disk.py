"""A disk that is full, or that fails when it is asked to keep what was written, loses nothing and halves nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.conformance.processes import HOST, FlagSetFile, Server, import_flags, serve_database
from tests.conformance.testbed import ROOT
from tests.crash.databases import Look, Place

FLAG: dict[str, Any] = {"variants": {"on": True, "off": False}, "default": "on"}
TIMEOUT_S = 120.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def flagstaff(*arguments: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}
    return subprocess.run(
        [*under, sys.executable, "-m", "server", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def document(path: Path, count: int, *, filler: str = "") -> str:
    """A file with some flags of about a size."""
    content = {"flags": {f"f{number}": {**FLAG, "description": filler} for number in range(count)}}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def evaluates(server: Server) -> bool:
    """Whether it answers."""
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        asked = messages.EvaluateRequest(flag_key="f0")
        return bool(EvaluationServiceStub(channel).Evaluate(asked, timeout=10).resolution.bool_value)


def counts(url: str) -> tuple[int, int, list[Any]]:
    """Revision, flags, and what the database finds wrong."""
    with closing(Look(Place(url))) as look:
        (revision,) = look.execute("SELECT max(revision) FROM environment").fetchone()
        (flags,) = look.execute("SELECT count(*) FROM flag_config").fetchone()
        return revision, flags, look.problems()


def test_a_full_disk_refuses_changes_and_nothing_else(tmp_path: Path, small_disk: Path) -> None:
    """The message says so; evaluation goes on; with room again changes are made without a restart."""
    url = f"sqlite:///{small_disk}/flags.db"
    import_flags(tmp_path / "first.json", FlagSetFile({"flags": {"f0": FLAG}}), database=url)
    before = counts(url)
    server = serve_database(tmp_path, url, options=("--last-known-good", str(tmp_path / "kept")))
    try:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 64 * 1024))
        refused = flagstaff("import", document(tmp_path / "large.json", 500, filler="x" * 2_000), "--database-url", url)
        assert (3, before) == (refused.returncode, counts(url))
        assert "there is no room for" in refused.stderr
        assert evaluates(server)

        ballast.unlink()
        done = flagstaff("import", document(tmp_path / "small.json", 20), "--database-url", url)
        assert (0, (2, 20, [])) == (done.returncode, counts(url)), done.stderr
        assert evaluates(server)
    finally:
        server.stop()


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_disk_that_does_not_keep_leaves_whole_commits(tmp_path: Path, first: int) -> None:
    """From one flush on all of them fail with EIO: the caller is told, and what is there is whole or absent."""
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no strace")
        pytest.skip("there is no strace")
    url = f"sqlite:///{tmp_path}/flags.db"
    import_flags(tmp_path / "first.json", FlagSetFile({"flags": {"f0": FLAG}}), database=url)
    inject = f"inject=fsync,fdatasync:error=EIO:when={first}+"
    under = (strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync", "-e", inject)
    failed = flagstaff("import", document(tmp_path / "more.json", 50), "--database-url", url, under=under)
    revision, flags, problems = counts(url)

    assert [] == problems
    assert (revision, flags) in ((1, 1), (2, 50))
    assert (3, True) == (failed.returncode, "the disk failed under" in failed.stderr), failed.stderr
    assert 0 == flagstaff("import", document(tmp_path / "last.json", 51), "--database-url", url).returncode
    assert 51 == counts(url)[1]
