"""Prove that a backup taken while commits go on holds one instant of the database, whole, and can be restored."""

import random
from functools import partial
from pathlib import Path
from select import select as select_ready
from typing import Final

from sqlalchemy import Engine, func, select

from server.core.changes import PutFlag
from server.operations.backups import back_up, restore_from
from server.store import tables
from server.store.engine import open_engine, reading
from server.store.environments import list_environments
from server.store.flagsets import load_documents
from server.store.migrations import migrate
from server.store.restore import EVENT
from server.store.revisions import load_documents_at
from tests.crash import writers
from tests.crash.proofs import Effort, Results
from tests.store.definitions import NOW, flag, new_shop, put

PART: Final = 10
"""A cycle takes so much longer than one of the other proofs that there is one for ten of theirs."""


def prove(effort: Effort) -> Results:
    """Back up under two writers again and again, and hold each restored database against the one that it came from."""
    directory, chance, results = Path(effort.directory), random.Random(effort.seed), Results()
    source = directory / "flagstaff.db"
    engine = new_shop(directory)
    for environment in writers.ENVIRONMENTS:
        put(engine, *(PutFlag(flag(f"base{number}")) for number in range(100)), environment=environment)
    engine.dispose()
    for cycle in range(max(1, effort.cycles // PART)):
        started = [
            writers.start(partial(writers.write_singles, f"sqlite:///{source}", seed=chance.randrange(10**9)))
            for _ in range(2)
        ]
        # The first thing that a writer says is that it begins.
        for writer in started:
            select_ready([writer.pipe], [], [])
        path = directory / f"{cycle}.backup"
        engine = open_engine(f"sqlite:///{source}")
        back_up(engine, path, now=NOW)
        for writer in started:
            ended = writers.end(writer, kill_after_s=0)
            results.note("commits acknowledged meanwhile", len(ended.acknowledged()))
        check(results, engine, path, directory / f"{cycle}.db", where=f"cycle {cycle}")
        engine.dispose()
        results.note("backups")
    return results


def check(results: Results, source: Engine, path: Path, restored_path: Path, *, where: str) -> None:
    """Hold what a backup is restored to against the database that it was taken from."""
    restored = open_engine(f"sqlite:///{restored_path}")
    migrate(restored)
    told = restore_from(restored, path, actor="prover", now=NOW)
    revisions = _revisions_backed_up(restored)
    results.equal("every environment is there", {"production", "staging"}, set(revisions), where=where)
    for environment, revision in revisions.items():
        with reading(source) as before, reading(restored) as after:
            expected = load_documents_at(before, project="shop", environment=environment, revision=revision)
            found = load_documents(after, project="shop", environment=environment)
        results.equal("flags are those of one revision", expected.flags, found.flags, where=where)
        results.equal("segments are those of that revision", expected.segments, found.segments, where=where)
        higher = told.revisions[f"shop/{environment}"] > _current(source, environment)
        results.check("revisions are above every one that was seen", higher, where)
    restored.dispose()


def _revisions_backed_up(engine: Engine) -> dict[str, int]:
    """At which revision each environment was: its highest one before the restore's own."""
    revision, entry = tables.revisions.c, tables.audit_entries.c
    leaps = select(entry.revision).where(entry.action == EVENT)
    query = (
        select(revision.environment, func.max(revision.revision))
        .where(revision.revision.not_in(leaps))
        .group_by(revision.environment)
    )
    with reading(engine) as connection:
        return {environment: highest for environment, highest in connection.execute(query)}


def _current(engine: Engine, environment: str) -> int:
    with reading(engine) as connection:
        return {each.environment.key: each.revision for each in list_environments(connection)}[environment]
