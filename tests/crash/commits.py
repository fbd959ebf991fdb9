"""Prove that a crash never loses, halves or tangles a commit, an import or a migration.

Writers say what was acknowledged and are killed with SIGKILL, at random instants and at every failpoint. Afterwards the
database is opened as by the next start, and looked at with plain queries: none of the code that wrote is asked.
"""

import json
import random
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
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
from tests.crash.proofs import Effort, Results
from tests.store.definitions import flag, new_shop, put

ROUND: Final = (
    "commit.begin", "commit.saved", "commit.audited", "commit.before_commit", "commit.after_commit",
    "random", "random", "two writers",
    "import.half", "import",
    "migrate.half", "migrate",
)  # fmt: skip
"""What is killed, and where, in turn."""

SINGLE_S_MAX: Final = 0.2
MIGRATE_S_MAX: Final = 0.06
IMPORT_S_PER_FLAG: Final = 0.0008


@dataclass(slots=True)
class Run:
    """One run of the proof, and what its writers were told."""

    effort: Effort
    chance: random.Random
    results: Results
    template: Path
    imported: list[FlagDefinition]
    acknowledged: dict[Path, list[writers.Acknowledged]] = field(default_factory=dict)
    """By database: all that its writers were told, over every cycle."""

    seen: dict[Path, set[str]] = field(default_factory=dict)
    """By database: commits that were durable but not acknowledged, counted already."""


def prove(effort: Effort) -> Results:
    """Kill writers again and again, and look at what they leave."""
    directory = Path(effort.directory)
    run = Run(effort, random.Random(effort.seed), Results(), _template(directory), [])
    run.imported = writers.import_flags(effort.import_flags)
    database = directory / "none"
    for cycle in range(effort.cycles):
        kind = ROUND[cycle % len(ROUND)]
        if cycle % len(ROUND) == 0:
            database = _fresh(run, f"round-{cycle}")
        where = f"cycle {cycle} ({kind})"
        if kind.startswith("migrate"):
            _migration_cycle(run, kind, directory / f"migrate-{cycle}.db", where=where)
        elif kind.startswith("import"):
            _import_cycle(run, kind, _fresh(run, f"import-{cycle}"), where=where)
        else:
            _commit_cycle(run, kind, database, where=where)
        run.results.note("cycles")
    return run.results


def _template(directory: Path) -> Path:
    engine = new_shop(directory)
    for environment in writers.ENVIRONMENTS:
        put(engine, PutSegment(Segment("beta", True)), environment=environment)
        put(engine, *(PutFlag(flag(f"base{number}")) for number in range(3)), environment=environment)
    engine.dispose()
    return Path(engine.url.database or "")


def _fresh(run: Run, name: str) -> Path:
    path = run.template.with_name(f"{name}.db")
    shutil.copy(run.template, path)
    run.acknowledged[path], run.seen[path] = [], set()
    return path


def _commit_cycle(run: Run, kind: str, path: Path, *, where: str) -> None:
    is_failpoint = kind.startswith("commit.")
    started = [
        writers.start(
            partial(
                writers.write_singles,
                _url(path),
                seed=run.chance.randrange(10**9),
                failpoint=kind if is_failpoint else "",
            )
        )
        for _ in range(2 if kind == "two writers" else 1)
    ]
    for writer in started:
        delay = None if is_failpoint else run.chance.uniform(0, SINGLE_S_MAX)
        ended = writers.end(writer, kill_after_s=delay, from_line="ready")
        run.results.check("a writer ends only by being killed", ended.killed or delay is not None, where)
        _remember(run, path, ended)
    verify(run, path, where=where)


def _import_cycle(run: Run, kind: str, path: Path, *, where: str) -> None:
    failpoint = kind if kind != "import" else ""
    seed = run.chance.randrange(10**9)

    def work(say: writers.Say) -> None:
        writers.write_import(_url(path), say, seed=seed, flags=run.imported, failpoint=failpoint)

    delay = None if failpoint else run.chance.uniform(0, IMPORT_S_PER_FLAG * len(run.imported))
    ended = writers.end(writers.start(work), kill_after_s=delay, from_line="importing")
    _remember(run, path, ended)
    with closing(_open(path)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM flag_config WHERE key LIKE 'import-%'").fetchone()
    whole = len(run.imported) if ended.acknowledged() else (found and len(run.imported))
    run.results.equal("an import is whole or absent", whole, found, where=where)
    run.results.note("imports that were cut off", int(not ended.acknowledged()))
    verify(run, path, where=where)


def _migration_cycle(run: Run, kind: str, path: Path, *, where: str) -> None:
    """Two processes start on an empty path at once; one of them is killed, the other must get through."""
    failpoint = kind if kind == "migrate.half" else ""
    killed = writers.start(lambda _: _migrate(_url(path), failpoint))
    other = writers.start(lambda _: _migrate(_url(path), ""))
    delay = None if failpoint else run.chance.uniform(0, MIGRATE_S_MAX)
    if writers.end(killed, kill_after_s=delay).killed:
        run.results.note("migrations killed")
    run.results.equal("another start migrates meanwhile", 0, writers.end(other, kill_after_s=None).status, where=where)
    half = path.with_suffix(".half.db")
    alone = writers.start(lambda _: _migrate(_url(half), failpoint))
    writers.end(alone, kill_after_s=delay)
    for each in (path, half):
        engine = open_engine(_url(each))
        before = schema_state(engine)
        with closing(_open(each)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
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


def _remember(run: Run, path: Path, ended: writers.Ended) -> None:
    acknowledged = ended.acknowledged()
    run.acknowledged[path] += acknowledged
    refused = {line.get("refused") for line in ended.said} & {"StoreUnavailable", "StoreCorrupt"}
    run.results.check("no writer fails", not refused and (ended.killed or ended.status == 0), f"{path.name}: {refused}")
    run.results.note("processes killed", int(ended.killed))
    run.results.note("commits acknowledged", len(acknowledged))


def verify(run: Run, path: Path, *, where: str) -> None:
    """Look at everything that a database must keep, as the next start would find it."""
    engine = open_engine(_url(path))
    results = run.results
    results.equal("it opens, and needs no migration", [], migrate(engine), where=where)
    with closing(_open(path)) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchall()
        results.equal("SQLite finds nothing wrong", [("ok",)], [tuple(row) for row in check], where=where)
        keys = connection.execute("PRAGMA foreign_key_check").fetchall()
        results.equal("no row points to nothing", [], keys, where=where)
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


def _verify_acknowledged(run: Run, connection: sqlite3.Connection, path: Path, *, where: str) -> None:
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


def _verify_whole(results: Results, connection: sqlite3.Connection, *, where: str) -> None:
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


def _by_commit(connection: sqlite3.Connection, query: str) -> Mapping[tuple[str, int], Mapping[tuple[str, str], Any]]:
    found: dict[tuple[str, int], dict[tuple[str, str], Any]] = defaultdict(dict)
    for environment, revision, kind, key, text in connection.execute(query):
        found[environment, revision][kind, key] = None if text is None else json.loads(text)
    return found


def _verify_state(results: Results, connection: sqlite3.Connection, *, where: str) -> None:
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


def _verify_orders(results: Results, connection: sqlite3.Connection, *, where: str) -> None:
    """No gap in revisions, audit trail or outbox; the chain of hashes holds."""
    for environment, count in connection.execute("SELECT key, revision FROM environment"):
        query = "SELECT DISTINCT revision FROM revision WHERE environment = ? ORDER BY revision"
        numbers = [number for (number,) in connection.execute(query, [environment])]
        results.equal("revisions have no gap", list(range(1, count + 1)), numbers, where=where)
    (last,) = connection.execute("SELECT event_sequence FROM project").fetchone()
    sequences = [number for (number,) in connection.execute("SELECT sequence FROM outbox ORDER BY sequence")]
    results.equal("announcements have no gap", list(range(1, last + 1)), sequences, where=where)
    connection.row_factory = sqlite3.Row
    previous, broken = GENESIS, []
    for row in connection.execute("SELECT * FROM audit_entry ORDER BY sequence"):
        entry = AuditEntry(**{**dict(row), "at": datetime.fromisoformat(row["at"]).replace(tzinfo=UTC)})
        if (entry.previous_hash, entry.hash) != (previous, chain_hash(entry, previous)):
            broken.append(entry.sequence)
        previous = entry.hash
    connection.row_factory = None
    results.equal("the audit chain holds", [], broken, where=where)


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path)


def _url(path: Path) -> str:
    return f"sqlite:///{path}"
