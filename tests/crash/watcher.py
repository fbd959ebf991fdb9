"""Follow a database in a process of its own, and say everything that is served meanwhile."""

import hashlib
import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.core.evaluation.snapshot import Snapshot
from server.live.follower import Follower
from server.live.holder import Holder
from server.live.loader import compile_documents
from server.live.watch import SetChange
from server.store.engine import open_engine, reading
from server.store.revisions import load_documents_at
from tests.crash.proofs import Results
from tests.crash.writers import Say, Writer, start


@dataclass(slots=True)
class Watcher:
    """A following process, and what it said until now."""

    process: Writer
    seen: dict[str, list[tuple[int, Mapping[str, str]]]] = field(default_factory=dict)
    """Flag set -> revisions in the order in which they were served, with what each flag was."""

    _text: bytes = b""

    def catch_up(self, wanted: Mapping[str, int], *, timeout_s: float) -> bool:
        """Listen until it serves these revisions."""
        until = time.monotonic() + timeout_s
        while any(self.last(name) < revision for name, revision in wanted.items()):
            if not select.select([self.process.pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                return False
            self._text += os.read(self.process.pipe, 1 << 16)
            *lines, self._text = self._text.split(b"\n")
            for line in lines:
                said = json.loads(line)
                self.seen.setdefault(said["flagSet"], []).append((said["revision"], said["flags"]))
        return True

    def last(self, name: str) -> int:
        """The revision that it serves."""
        return self.seen[name][-1][0] if self.seen.get(name) else 0

    def stop(self) -> None:
        """Give it no chance to say goodbye."""
        os.kill(self.process.pid, signal.SIGKILL)
        os.waitpid(self.process.pid, 0)
        os.close(self.process.pipe)


def watch(url: str) -> Watcher:
    """Begin to follow."""
    return Watcher(start(lambda say: _follow(url, say)))


def check_history(results: Results, watcher: Watcher, url: str, *, where: str) -> None:
    """Hold what was served against what the database keeps of every revision."""
    engine = open_engine(url)
    with reading(engine) as connection:
        for name, told in watcher.seen.items():
            project, _, environment = name.partition("/")
            revisions = [revision for revision, _ in told]
            results.equal("a follower never goes back", sorted(set(revisions)), revisions, where=f"{where}, {name}")
            for revision, flags in told:
                then = load_documents_at(connection, project=project, environment=environment, revision=revision)
                expected = _content(compile_documents(then))
                results.equal("what is served is what a revision says", expected, flags, where=f"{where}, {revision}")
    engine.dispose()


def _follow(url: str, say: Say) -> None:
    holder = Holder("shop/production")

    def changed(_changes: Sequence[SetChange]) -> None:
        for name, snapshot in holder.serving.snapshots.items():
            if told.get(name) != snapshot.revision:
                told[name] = snapshot.revision
                say({"flagSet": name, "revision": snapshot.revision, "flags": _content(snapshot)})

    told: dict[str, Any] = {}
    Follower(open_engine(url), holder, changed=changed).start()
    while True:
        time.sleep(60)


def _content(snapshot: Snapshot) -> dict[str, str]:
    return {key: hashlib.sha256(flag.exported).hexdigest() for key, flag in snapshot.flags.items()}
