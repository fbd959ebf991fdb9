"""Run writers in processes of their own, and kill them at an instant or at a failpoint.

A writer is forked, not started: a cycle then costs milliseconds, not the second that imports take. So who forks must
have no database open and no threads.
"""

import importlib
import json
import os
import random
import select
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag, UpdateEnvironment
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.errors import FlagstaffError
from server.core.flags import FlagDefinition
from server.core.segments import Segment
from server.store import failpoints
from server.store.commit import Committed, commit
from server.store.engine import open_engine
from tests.store.definitions import NOW

ENVIRONMENTS: Final = ("production", "staging")
COMMITS_MAX: Final = 400
"""A writer that nobody kills ends by itself."""

Acknowledged: TypeAlias = dict[str, Any]
"""What a writer prints when a commit returned: revisions by environment, and the version of each thing in them."""

Say: TypeAlias = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a writer ended, and all that it said until then."""

    killed: bool
    status: int
    said: tuple[Acknowledged, ...]

    def acknowledged(self) -> list[Acknowledged]:
        """Commits that returned."""
        return [line for line in self.said if "revisions" in line]


@dataclass(frozen=True, slots=True)
class Writer:
    """A running writer."""

    pid: int
    pipe: int


def start(work: Callable[[Say], None]) -> Writer:
    """Fork a writer; it may say things, which are read when it has ended."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        status = 1
        try:
            work(lambda line: _say(write_end, line))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write_end)
    return Writer(pid, read_end)


def end(writer: Writer, *, kill_after_s: float | None, from_line: str = "") -> Ended:
    """Wait for a writer's end, or kill it some time after its start, or after it said `from_line`."""
    deadline = None if kill_after_s is None or from_line else time.monotonic() + kill_after_s
    text = b""
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            os.kill(writer.pid, signal.SIGKILL)
            deadline = None
            continue
        if not select.select([writer.pipe], [], [], left)[0]:
            continue
        part = os.read(writer.pipe, 65536)
        if not part:
            break
        text += part
        if deadline is None and from_line and kill_after_s is not None and from_line.encode() in text:
            deadline, from_line = time.monotonic() + kill_after_s, ""
    os.close(writer.pipe)
    _, status = os.waitpid(writer.pid, 0)
    lines = tuple(json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n"))
    return Ended(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status, lines)


def arm(failpoint: str) -> None:
    """Make this process die at a failpoint, by the way that users have: the environment."""
    os.environ["FLAGSTAFF_FAILPOINT"] = failpoint
    importlib.reload(failpoints)


def write_singles(url: str, say: Say, *, seed: int, failpoint: str = "") -> None:
    """Commit small changes one after another; dies at the failpoint after a few."""
    chance = random.Random(seed)
    engine = open_engine(url)
    arm_at = chance.randrange(8)
    say({"ready": seed})
    for number in range(COMMITS_MAX):
        if failpoint and number == arm_at:
            arm(failpoint)
        environment = chance.choice(ENVIRONMENTS)
        version = f"{seed}-{number}"
        changes = [_change(chance, version) for _ in range(chance.choice((1, 1, 1, 2, 5)))]
        request_id = chance.choice(("", version))
        try:
            committed = commit(
                engine, project="shop", environment=environment, changes=changes,
                actor="writer", now=NOW, cause=version, request_id=request_id,
            )  # fmt: skip
        except FlagstaffError as refused:
            say({"refused": type(refused).__name__})
            continue
        say(_acknowledgement(environment, committed, version))


def write_import(url: str, say: Say, *, seed: int, flags: Sequence[FlagDefinition], failpoint: str = "") -> None:
    """Commit one large import."""
    engine = open_engine(url)
    if failpoint:
        arm(failpoint)
    version = f"import-{seed}"
    say({"importing": version})
    committed = commit(
        engine,
        project="shop",
        environment="production",
        changes=[PutFlag(each) for each in flags],
        actor="importer",
        now=NOW,
        cause=version,
    )
    say(_acknowledgement("production", committed, version))


def import_flags(count: int) -> list[FlagDefinition]:
    """Flags to be imported: alike, with a rule each."""
    rule = {"id": "r", "condition": {"$ref": "beta"}, "share": {"percent": 20}, "serve": "on"}
    return [_flag(f"import-{number:05}", "imported", rules=[rule]) for number in range(count)]


def _acknowledgement(environment: str, committed: Committed, version: str) -> Acknowledged:
    return {
        "revisions": {} if committed.unchanged else {environment: committed.revision, **committed.elsewhere},
        "cause": version,
    }


def _change(chance: random.Random, version: str) -> Change:
    number = chance.randrange(20)
    match chance.randrange(10):
        case 0:
            return PutSegment(Segment("beta", {"==": [{"var": "plan"}, version]}))
        case 1:
            return RemoveFlag(f"f{number}")
        case 2:
            return UpdateEnvironment(metadata={"version": version})
        case 3 | 4:
            base = [{"flag": f"base{number % 3}", "variants": ["on"]}]
            return PutFlag(_flag(f"f{number}", version, prerequisites=base))
        case 5:
            return PutFlag(_flag(f"base{number % 3}", version))
        case _:
            rule = {"id": "r", "share": {"percent": 12.5}, "serve": {"weights": {"on": 1, "off": number}}}
            return PutFlag(_flag(f"f{number}", version, rules=[rule]))


def _flag(key: str, version: str, **fields: object) -> FlagDefinition:
    data = {"variants": {"on": True, "off": False}, "default": "off", "description": version, **fields}
    problems = Problems()
    definition = read_flag(key, data, problems=problems, path="")
    problems.raise_if_any()
    assert definition is not None
    return definition


def _say(pipe: int, line: Mapping[str, Any]) -> None:
    os.write(pipe, json.dumps(line).encode() + b"\n")
