"""Prove that a crash never loses, halves or tangles a commit, an import or a migration.

Writers say what was acknowledged and are killed with SIGKILL, at random instants and at every failpoint. Afterwards the
database is opened as by the next start, and looked at with plain queries: none of the code that wrote is asked. On
PostgreSQL the server itself is killed too, under its writers, and everything that a follower serves meanwhile is held
against what the database keeps of each revision.
"""

import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from server.core import references
from server.core.audit import GENESIS, AuditEntry, chain_hash
from server.core.changes import PutFlag, PutSegment
from server.core.definitions.flags import read_flag
from server.core.definitions.flagsets import check_flag_set
from server.core.definitions.problems import Problems
from server.core.definitions.segments import read_segment
from server.core.flags import FlagDefinition
from server.core.segments import Segment
from server.store.engine import open_engine, reading
from server.store.flagsets import read_flag_set
from server.store.migrations import SchemaState, migrate, schema_state
from server.store.tables import Base
from tests.crash import writers
from tests.crash.databases import Databases, Look, Place, databases
from tests.crash.proofs import Effort, Results
from tests.crash.watcher import check_history, watch
from tests.postgres import NoServer
from tests.store.definitions import flag, open_shop, put

ROUND: Final = (
    "commit.begin", "commit.saved", "commit.audited", "commit.before_commit", "commit.after_commit",
    "random", "followed", "two writers",
    "import.half", "import",
    "migrate.half", "migrate",
)  # fmt: skip
"""What is killed, and where, in turn."""

FOLLOWED: Final = "followed"
SERVER: Final = "server"
"""Instead of a random instant, where there is a server."""

CATCH_UP_S: Final = 30.0

SINGLE_S_MAX: Final = 0.2
MIGRATE_S_MAX: Final = 0.06
IMPORT_S_PER_FLAG: Final = 0.0008


@dataclass(slots=True)
class Run:
    """One run of the proof, and what its writers were told."""

    effort: Effort
    chance: random.Random
    results: Results
    template: Place
    databases: Databases
    imported: list[FlagDefinition]
    acknowledged: dict[Place, list[writers.Acknowledged]] = field(default_factory=dict)
    """By database: all that its writers were told, over every cycle."""

    seen: dict[Place, set[str]] = field(default_factory=dict)
    """By database: commits that were durable but not acknowledged, counted already."""


def prove(effort: Effort) -> Results:
    """Kill writers again and again, on both kinds of database, and look at what they leave."""
    results = Results()
    for kind in ("sqlite", "postgresql"):
        directory = Path(effort.directory) / kind
        directory.mkdir()
        try:
            with databases(directory, kind) as made:
                _prove_on(made, effort, results, kind=kind)
        except NoServer as error:
            results.check("there is a PostgreSQL server", os.environ.get("CI") != "true", str(error))
    return results


def _prove_on(made: Databases, effort: Effort, results: Results, *, kind: str) -> None:
    run = Run(effort, random.Random(effort.seed), results, _template(made), made, [])
    run.imported = writers.import_flags(effort.import_flags)
    kinds = [SERVER if each == "random" and made.cluster else each for each in ROUND]
    database = run.template
    for cycle in range(effort.cycles):
        what = kinds[cycle % len(kinds)]
        if cycle % len(kinds) == 0:
            made.clear(keep=run.template)
            database = _fresh(run, f"round-{cycle}")
        where = f"{kind}, cycle {cycle} ({what})"
        if what.startswith("migrate"):
            _migration_cycle(run, what, f"migrate-{cycle}", where=where)
        elif what.startswith("import"):
            _import_cycle(run, what, _fresh(run, f"import-{cycle}"), where=where)
        elif what == FOLLOWED:
            _followed_cycle(run, database, where=where)
        elif what == SERVER:
            _server_cycle(run, database, where=where)
        else:
            _commit_cycle(run, what, database, where=where)
        results.note("cycles")


def _template(made: Databases) -> Place:
    place = made.new("template")
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    for environment in writers.ENVIRONMENTS:
        put(engine, PutSegment(Segment("beta", True)), environment=environment)
        put(engine, *(PutFlag(flag(f"base{number}")) for number in range(3)), environment=environment)
    engine.dispose()
    return place


def _fresh(run: Run, name: str) -> Place:
    place = run.databases.copy(run.template, name)
    run.acknowledged[place], run.seen[place] = [], set()
    return place


def _followed_cycle(run: Run, place: Place, *, where: str) -> None:
    """Two writers write and are killed, while somebody follows."""
    watcher = watch(place.url)
    try:
        watcher.catch_up({"shop/production": 1}, timeout_s=CATCH_UP_S)
        started = [_start_writer(run, place) for _ in range(2)]
        for writer in started:
            _remember(run, place, writers.end(writer, kill_after_s=SINGLE_S_MAX * 2, from_line="ready"))
        with closing(Look(place)) as look:
            rows = look.execute("SELECT project, key, revision FROM environment").fetchall()
        last = {f"{project}/{key}": revision for project, key, revision in rows}
        run.results.check("a follower catches up", watcher.catch_up(last, timeout_s=CATCH_UP_S), where)
    finally:
        watcher.stop()
    check_history(run.results, watcher, place.url, where=where)
    run.results.note("snapshots that were served", sum(map(len, watcher.seen.values())))
    verify(run, place, where=where)


def _server_cycle(run: Run, place: Place, *, where: str) -> None:
    """The database's server is killed under two writers, and started again."""
    cluster = run.databases.cluster
    assert cluster is not None
    started = [_start_writer(run, place) for _ in range(2)]
    time.sleep(run.chance.uniform(0.1, 0.4))
    cluster.stop(signal.SIGQUIT)
    cluster.start()
    for writer in started:
        _remember(run, place, writers.end(writer, kill_after_s=SINGLE_S_MAX, from_line="ready"), may_fail=True)
    run.results.note("servers killed")
    verify(run, place, where=where)


def _start_writer(run: Run, place: Place, failpoint: str = "") -> writers.Writer:
    seed = run.chance.randrange(10**9)
    return writers.start(partial(writers.write_singles, place.url, seed=seed, failpoint=failpoint))


def _commit_cycle(run: Run, kind: str, path: Place, *, where: str) -> None:
    is_failpoint = kind.startswith("commit.")
    failpoint = kind if is_failpoint else ""
    started = [_start_writer(run, path, failpoint) for _ in range(2 if kind == "two writers" else 1)]
    for writer in started:
        delay = None if is_failpoint else run.chance.uniform(0, SINGLE_S_MAX)
        ended = writers.end(writer, kill_after_s=delay, from_line="ready")
        run.results.check("a writer ends only by being killed", ended.killed or delay is not None, where)
        _remember(run, path, ended)
    verify(run, path, where=where)


def _import_cycle(run: Run, kind: str, path: Place, *, where: str) -> None:
    failpoint = kind if kind != "import" else ""
    seed = run.chance.randrange(10**9)

    def work(say: writers.Say) -> None:
        writers.write_import(path.url, say, seed=seed, flags=run.imported, failpoint=failpoint)

    delay = None if failpoint else run.chance.uniform(0, IMPORT_S_PER_FLAG * len(run.imported))
    ended = writers.end(writers.start(work), kill_after_s=delay, from_line="importing")
    _remember(run, path, ended)
    with closing(Look(path)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM flag_config WHERE key LIKE 'import-%'").fetchone()
    whole = len(run.imported) if ended.acknowledged() else (found and len(run.imported))
    run.results.equal("an import is whole or absent", whole, found, where=where)
    run.results.note("imports that were cut off", int(not ended.acknowledged()))
    verify(run, path, where=where)


def _migration_cycle(run: Run, kind: str, name: str, *, where: str) -> None:
    """Two processes start on an empty path at once; one of them is killed, the other must get through."""
    failpoint = kind if kind == "migrate.half" else ""
    path, half = run.databases.new(name), run.databases.new(f"{name}-half")
    killed = writers.start(lambda _: _migrate(path.url, failpoint))
    other = writers.start(lambda _: _migrate(path.url, ""))
    delay = None if failpoint else run.chance.uniform(0, MIGRATE_S_MAX)
    if writers.end(killed, kill_after_s=delay).killed:
        run.results.note("migrations killed")
    run.results.equal("another start migrates meanwhile", 0, writers.end(other, kill_after_s=None).status, where=where)
    alone = writers.start(lambda _: _migrate(half.url, failpoint))
    writers.end(alone, kill_after_s=delay)
    for each in (path, half):
        engine = open_engine(each.url)
        before = schema_state(engine)
        with closing(Look(each)) as connection:
            tables = connection.table_count()
        run.results.check("a schema is whole or absent", (tables == 0) == (before is SchemaState.BEHIND), where)
        migrate(engine)
        run.results.equal("it migrates after a crash", SchemaState.CURRENT, schema_state(engine), where=where)
        with reading(engine) as transaction:
            difference = compare_metadata(MigrationContext.configure(transaction), Base.metadata)
        run.results.equal("the schema is the models'", [], difference, where=where)
        engine.dispose()


def _migrate(url: str, failpoint: str) -> None:
    if failpoint:
        writers.arm(failpoint)
    migrate(open_engine(url))


def _remember(run: Run, path: Place, ended: writers.Ended, *, may_fail: bool = False) -> None:
    acknowledged = ended.acknowledged()
    run.acknowledged[path] += acknowledged
    refused = {line.get("refused") for line in ended.said} & (
        {"StoreCorrupt"} if may_fail else {"StoreUnavailable", "StoreCorrupt"}
    )
    run.results.check("no writer fails", not refused and (ended.killed or ended.status == 0), f"{path.name}: {refused}")
    run.results.note("processes killed", int(ended.killed))
    run.results.note("commits acknowledged", len(acknowledged))


def verify(run: Run, path: Place, *, where: str) -> None:
    """Look at everything that a database must keep, as the next start would find it."""
    engine = open_engine(path.url)
    results = run.results
    results.equal("it opens, and needs no migration", [], migrate(engine), where=where)
    with closing(Look(path)) as connection:
        results.equal("the database finds nothing wrong", [], connection.problems(), where=where)
        _verify_acknowledged(run, connection, path, where=where)
        _verify_whole(results, connection, where=where)
        _verify_state(results, connection, where=where)
        _verify_orders(results, connection, where=where)
    with reading(engine) as transaction:
        for environment in writers.ENVIRONMENTS:
            flag_set = read_flag_set(transaction, project="shop", environment=environment)
            results.equal("every flag set is sound", [], check_flag_set(flag_set), where=where)
    committed = put(engine, PutFlag(flag("after", description=where)))
    run.acknowledged[path].append({"revisions": {"production": committed.revision}, "cause": ""})
    results.check("the next commit works", not committed.unchanged, where)
    engine.dispose()


def _verify_acknowledged(run: Run, connection: Look, path: Place, *, where: str) -> None:
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for environment, revision, cause in connection.execute(
        "SELECT environment, revision, cause FROM audit_entry WHERE environment != ''"
    ):
        found[environment, revision].add(cause)
    acknowledged = {
        (environment, revision): said["cause"]
        for said in run.acknowledged[path]
        for environment, revision in said["revisions"].items()
    }
    for key, cause in acknowledged.items():
        run.results.equal("what was acknowledged is there", {cause}, found.get(key), where=where)
    first = {"production": 4, "staging": 4}
    unknown = {
        cause
        for key, causes in found.items()
        if key not in acknowledged and key[1] >= first[key[0]]
        for cause in causes
    }
    # A cause begins with its writer's name, and each writer had at most one commit under way when it died.
    by_writer = Counter(cause.rpartition("-")[0] for cause in unknown)
    run.results.check("nothing else is there but what was under way", max(by_writer.values(), default=0) <= 1, where)
    run.results.note("commits that were durable but not acknowledged", len(unknown - run.seen[path]))
    run.seen[path] |= unknown


def _verify_whole(results: Results, connection: Look, *, where: str) -> None:
    """Each commit has the same things in revisions, audit trail and outbox, with the same documents."""
    revisions = _by_commit(connection, "SELECT environment, revision, kind, key, document FROM revision")
    audited = _by_commit(
        connection,
        "SELECT environment, revision, subject_kind, subject_key, after FROM audit_entry WHERE environment != ''",
    )
    announced: dict[tuple[str, int], dict[tuple[str, str], Any]] = defaultdict(dict)
    for environment, text in connection.execute("SELECT environment, payload FROM outbox WHERE environment != ''"):
        payload = json.loads(text)
        announced[environment, payload["revision"]][payload["kind"], payload["key"]] = payload["after"]
    results.equal("each revision has its audit entries", revisions, audited, where=where)
    results.equal("each revision has its announcements", revisions, announced, where=where)


def _by_commit(connection: Look, query: str) -> Mapping[tuple[str, int], Mapping[tuple[str, str], Any]]:
    found: dict[tuple[str, int], dict[tuple[str, str], Any]] = defaultdict(dict)
    for environment, revision, kind, key, text in connection.execute(query):
        found[environment, revision][kind, key] = None if text is None else json.loads(text)
    return found


def _verify_state(results: Results, connection: Look, *, where: str) -> None:
    """The present is what the last revisions say, and the references are those of the present."""
    last: dict[tuple[str, str, str], Any] = {}
    for environment, kind, key, text in connection.execute(
        "SELECT environment, kind, key, document FROM revision WHERE kind != 'environment' ORDER BY revision"
    ):
        last[environment, kind, key] = None if text is None else json.loads(text)
    present: dict[tuple[str, str, str], Any] = {}
    for environment, key, shared, own in connection.execute(
        "SELECT c.environment, c.key, f.document, c.document FROM flag_config c"
        " JOIN flag f ON f.project = c.project AND f.key = c.key"
    ):
        present[environment, "flag", key] = {**json.loads(shared), **json.loads(own)}
    for environment, key, text in connection.execute("SELECT environment, key, document FROM segment"):
        present[environment, "segment", key] = json.loads(text)
    lasting = {key: document for key, document in last.items() if document is not None}
    results.equal("the state is what the revisions say", lasting, present, where=where)
    expected = {(*thing, *target) for thing, document in present.items() for target in _targets(thing, document)}
    rows = connection.execute("SELECT environment, kind, key, target_kind, target_key FROM reference")
    results.equal("the references are those of the state", expected, {tuple(row) for row in rows}, where=where)


def _targets(thing: tuple[str, str, str], document: Any) -> Iterable[references.Target]:
    _, kind, key = thing
    if kind == "segment":
        segment = read_segment(key, document, problems=Problems(), path="")
        return references.of_segment(segment) if segment else ()
    definition = read_flag(key, document, problems=Problems(), path="")
    return references.of_flag(definition) if definition else ()


def _verify_orders(results: Results, connection: Look, *, where: str) -> None:
    """No gap in revisions, audit trail or outbox; the chain of hashes holds."""
    for environment, count in connection.execute("SELECT key, revision FROM environment"):
        query = "SELECT DISTINCT revision FROM revision WHERE environment = ? ORDER BY revision"
        numbers = [number for (number,) in connection.execute(query, [environment])]
        results.equal("revisions have no gap", list(range(1, count + 1)), numbers, where=where)
    (last,) = connection.execute("SELECT event_sequence FROM project").fetchone()
    sequences = [number for (number,) in connection.execute("SELECT sequence FROM outbox ORDER BY sequence")]
    results.equal("announcements have no gap", list(range(1, last + 1)), sequences, where=where)
    previous, broken = GENESIS, []
    names = [each.name for each in fields(AuditEntry)]
    columns = ", ".join(f'"{name}"' for name in names)
    for values in connection.execute(f"SELECT {columns} FROM audit_entry ORDER BY sequence"):
        row = dict(zip(names, values, strict=True))
        at = row["at"] if isinstance(row["at"], datetime) else datetime.fromisoformat(row["at"]).replace(tzinfo=UTC)
        entry = AuditEntry(**{**row, "at": at})
        if (entry.previous_hash, entry.hash) != (previous, chain_hash(entry, previous)):
            broken.append(entry.sequence)
        previous = entry.hash
    results.equal("the audit chain holds", [], broken, where=where)
