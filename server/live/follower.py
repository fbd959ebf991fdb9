"""Follow the database: load what it has, notice what commits change, outlive its absence."""

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.environments import Environment
from server.core.errors import FlagstaffError, StoreUnavailable
from server.core.evaluation.difference import changed_flags
from server.core.evaluation.snapshot import Snapshot
from server.live.background import Hold, paced, run_alone
from server.live.holder import Holder, Serving
from server.live.last_known_good import LastKnownGood
from server.live.loader import load_snapshot, refresh_snapshot
from server.live.watch import SetChange
from server.store.addresses import without_address
from server.store.engine import is_there, reading, shown, watching
from server.store.environments import list_environments
from server.store.flagsets import stream_documents
from server.store.schema import is_newest

RETRY_S: Final = 1.0
"""Between two attempts to reach a database that is gone; up to half of it is added by chance."""

KEEP_AFTER_S: Final = 5.0
"""Commits that follow each other within this time are kept as last known good by one write."""

KEEP_LAST_S: Final = 3.0
KEEP_LAST_RETRY_S: Final = 0.05
"""When stopping, for what another process keeps at the same time."""

log = logging.getLogger("flagstaff.live")


class Follower:
    """Two threads: one brings the database's commits into the holder, one writes them to last-known-good files."""

    def __init__(
        self,
        engine: Engine,
        holder: Holder,
        *,
        last_known_good: LastKnownGood | None = None,
        changed: Callable[[Sequence[SetChange]], None] = lambda changes: None,
        poll_s: float | None = None,
        retry_s: float = RETRY_S,
        keep_after_s: float = KEEP_AFTER_S,
    ) -> None:
        self._engine, self._holder, self._changed = engine, holder, changed
        self._kept = last_known_good
        self._poll_s, self._retry_s, self._keep_after_s = poll_s, retry_s, keep_after_s
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._unkept: dict[str, tuple[Environment, datetime]] = {}
        """Flag sets that changed, and since when a file of their revision is good."""

        self._unkept_lock = threading.Lock()
        self._reported = self._keep_reported = ""
        self._damaged: dict[str, str] = {}
        self._everything = False
        self._threads = [threading.Thread(target=self._follow, name="flagstaff-follower", daemon=True)]
        if last_known_good is not None:
            self._threads.append(threading.Thread(target=self._keep, name="flagstaff-keeper", daemon=True))

    def start(self) -> None:
        """Begin to follow; returns at once. `Holder.ready` tells when something can be evaluated."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop following, after what is not yet kept was written."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout_s)

    def reload(self) -> None:
        """Read everything anew at the next look, also rows that were changed without a commit of ours."""
        self._everything = True
        self._wake.set()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._open()
                self._look_on()
            except FlagstaffError as error:
                self._lost(error)
                self._stopping.wait(self._retry_s * (1 + random.random() / 2))
            except Exception:
                # The thread must live on: without it the server would never see a commit again.
                log.exception("following the database failed; trying again")
                self._stopping.wait(self._retry_s)

    def _open(self) -> None:
        """Bring the schema up to date. Errors: StoreUnavailable, StoreCorrupt."""
        known = self._holder.loaded or (self._kept is not None and self._kept.any())
        if known and not is_there(self._engine):
            # Far more often a volume that is not mounted, or a wrong name, than a wish to begin anew.
            raise StoreUnavailable(
                f"{shown(self._engine)} does not exist or is empty, though flag sets from it are known; "
                "bring it back, or run `flagstaff migrate` to begin anew"
            )
        if is_newest(self._engine):
            return
        # Loaded only where there is something to migrate, or to refuse: it brings Alembic along.
        from server.store.migrations import migrate  # noqa: PLC0415

        applied = migrate(self._engine)
        if applied:
            log.info("migrated the database", extra={"migrations": applied})

    def _look_on(self) -> None:
        """Refresh at once, then at every commit. Returns when stopping. Errors: as the store's."""
        with watching(self._engine) as watch:
            poll_s = watch.poll_s if self._poll_s is None else self._poll_s
            seen: object = None
            while not self._stopping.is_set():
                version = watch.version()
                if version != seen or self._wake.is_set():
                    self._wake.clear()
                    self._refresh()
                    seen = version
                watch.wait(poll_s, until=self._is_awake)

    def _is_awake(self) -> bool:
        return self._stopping.is_set() or self._wake.is_set()

    def _refresh(self) -> None:
        serving = self._holder.serving
        snapshots: dict[str, Snapshot] = {}
        changed: dict[str, Environment] = {}
        everything, self._everything = self._everything, False
        first = not self._holder.loaded
        damaged: dict[str, str] = {}
        with reading(self._engine) as connection:
            for stored in list_environments(connection, damaged=damaged.__setitem__):
                name = stored.environment.flag_set
                before = None if everything else serving.snapshots.get(name)
                snapshots[name] = _current(connection, before, stored.environment, stored.revision)
                if snapshots[name] is not before:
                    changed[name] = stored.environment
        # A set whose environment cannot be read is served as it last was; the other sets go on.
        snapshots.update({name: serving.snapshots[name] for name in damaged if name in serving.snapshots})
        self._report_damaged(damaged)
        gone = serving.snapshots.keys() - snapshots.keys()
        if changed or gone or serving.stale_since is not None or not self._holder.loaded:
            known = self._holder.loaded
            self._holder.serving = Serving(snapshots, _aliases(snapshots))
            self._holder.loaded = True
            self._report(snapshots, changed)
            self._changed(_steps(serving.snapshots, snapshots, {*changed, *gone}) if known else [])
        for name in gone:
            changed[name] = serving.snapshots[name].environment
        # A file of that revision is good, whoever wrote it; but not one from before we looked at this database.
        good_since = datetime.now(UTC) if everything or first else datetime.min.replace(tzinfo=UTC)
        with self._unkept_lock:
            self._unkept.update({name: (environment, good_since) for name, environment in changed.items()})
        self._reported = ""

    def _report(self, snapshots: dict[str, Snapshot], changed: dict[str, Environment]) -> None:
        for name in changed:
            snapshot = snapshots[name]
            log.info(
                "serving flag set",
                extra={"flag_set": name, "revision": snapshot.revision, "flags": len(snapshot.flags)},
            )
            for flag in filter(attrgetter("quarantine"), snapshot.flags.values()):
                log.error("flag is quarantined", extra={"flag_set": name, "flag": flag.key, "why": flag.quarantine})

    def _report_damaged(self, damaged: dict[str, str]) -> None:
        for name, why in damaged.items():
            if name not in self._damaged:
                log.error("an environment cannot be read; others are served", extra={"flag_set": name, "why": why})
        self._damaged = damaged

    def _lost(self, error: FlagstaffError) -> None:
        """Serve on with what there is; from the last-known-good files when nothing was loaded yet."""
        if str(error) != self._reported:
            self._reported = str(error)
            log.error("the database cannot be used; serving goes on with what was loaded", extra={"error": str(error)})
        serving = self._holder.serving
        # Everyone may ask whether a server is ready; where its database is, is in its log alone.
        why = without_address(self._engine.url, str(error))
        if self._holder.loaded:
            if serving.stale_since is None or serving.stale_because != why:
                since = serving.stale_since or time.time()
                self._holder.serving = replace(serving, stale_since=since, stale_because=why)
            if serving.stale_since is None:
                self._changed([])
            return
        if self._kept is None:
            return
        found, problems = self._kept.read()
        for problem in problems:
            log.error("a last-known-good file cannot be used", extra={"error": problem})
        if found:
            snapshots = {kept.snapshot.flag_set: kept.snapshot for kept in found}
            since = min(kept.written_at for kept in found).timestamp()
            self._holder.serving = Serving(snapshots, _aliases(snapshots), since, why)
            self._holder.loaded = True
            log.warning("serving last known good flag sets", extra={"flag_sets": sorted(snapshots)})
            self._changed([])

    def _keep(self) -> None:
        while not self._stopping.wait(self._keep_after_s):
            self._keep_now()
        # The one who keeps them now may not have seen the last commit.
        until = time.monotonic() + KEEP_LAST_S
        while not self._keep_now() and time.monotonic() < until:
            time.sleep(KEEP_LAST_RETRY_S)

    def _keep_now(self) -> bool:
        """Keep what changed; False when another process is at it."""
        assert self._kept is not None
        with self._unkept_lock:
            self._unkept = {name: each for name, each in self._unkept.items() if not self._is_kept(name, *each)}
            if not self._unkept:
                return True
        try:
            return run_alone(self._engine, keeper_of(self._kept), self._keep_all)
        except Exception as error:
            # Whatever is in the database, the thread must live on.
            if str(error) != self._keep_reported:
                self._keep_reported = str(error)
                log.error("flag sets could not be kept as last known good", extra={"error": str(error)})
            return True

    def _is_kept(self, name: str, environment: Environment, good_since: datetime) -> bool:
        """Whether another process has kept it."""
        assert self._kept is not None
        head, snapshot = self._kept.head(environment), self._holder.serving.snapshots.get(name)
        if head is None or snapshot is None:
            return head is None and snapshot is None
        revision, written_at = head
        return revision == snapshot.revision and written_at >= good_since

    def _keep_all(self, hold: Hold) -> None:
        with self._unkept_lock:
            unkept, self._unkept = self._unkept, {}
        for name, (environment, good_since) in unkept.items():
            try:
                self._keep_one(name, environment, good_since, hold)
            except Exception as error:
                # The other sets are kept all the same.
                log.error(
                    "a flag set could not be kept as last known good", extra={"flag_set": name, "error": str(error)}
                )
                with self._unkept_lock:
                    self._unkept.setdefault(name, (environment, good_since))

    def _keep_one(self, name: str, environment: Environment, good_since: datetime, hold: Hold) -> None:
        assert self._kept is not None
        if name not in self._holder.serving.snapshots:
            with hold.fenced(alone=False):
                self._kept.forget(environment)
            return
        with reading(self._engine) as connection:
            stored = stream_documents(connection, project=environment.project, environment=environment.key)
            head = self._kept.head(environment)
            if head is not None and head[0] == stored.revision and head[1] >= good_since:
                # Another process kept it between our look and our turn.
                return
            # Nobody waits for it before the end.
            unhurried = replace(stored, flags=paced(stored.flags, ended=self._stopping))
            fenced = partial(hold.fenced, alone=False)
            self._kept.write(unhurried, now=datetime.now(UTC), fenced=fenced)


def keeper_of(kept: LastKnownGood) -> str:
    """The lease of the one process that writes the files of a directory; each machine has one. Errors: OSError."""
    return f"last-known-good/{kept.identity()}"


def _current(connection: Connection, before: Snapshot | None, environment: Environment, revision: int) -> Snapshot:
    if before is None:
        return load_snapshot(connection, project=environment.project, environment=environment.key)
    return before if before.revision == revision else refresh_snapshot(connection, before)


def _steps(before: Mapping[str, Snapshot], after: Mapping[str, Snapshot], names: Collection[str]) -> list[SetChange]:
    """What changed in each of these flag sets, also where it is a revision that clients cannot tell from the last."""
    return [
        SetChange(name, before.get(name), after.get(name), changed_flags(before.get(name), after.get(name)))
        for name in sorted(names)
    ]


def _aliases(snapshots: dict[str, Snapshot]) -> dict[tuple[str, str], str]:
    """Further names by which flagd's selector finds a set; a set's own name is never taken over by another's alias."""
    aliases: dict[tuple[str, str], str] = {}
    for name in sorted(snapshots):
        environment = snapshots[name].environment
        declared = environment.metadata.get("flagSetId")
        if isinstance(declared, str) and declared not in snapshots:
            aliases.setdefault(("flagSetId", declared), name)
        if environment.source:
            aliases.setdefault(("source", environment.source), name)
    return aliases
