"""Make a database that was used for long: many flags in several environments, each with many revisions.

Committed one by one it would take an hour, so the past is written straight into the tables, by the form that commits
give it: revisions, and the audit entries with their chain of hashes. What is current was imported.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from server.core.audit import AuditEntry, chain_hash
from tests.benchmarks.processes import import_document
from tests.benchmarks.samples import CONDITIONS

ENVIRONMENTS: Final = ("development", "staging", "production")
REVISIONS_EACH: Final = 50
BEGAN_AT: Final = datetime(2024, 1, 1, tzinfo=UTC)
EVERY_S: Final = 30.0
_AT_ONCE: Final = 20_000
_NAMES: Final = tuple(field.name for field in fields(AuditEntry))


def small_flag(number: int) -> dict[str, Any]:
    """A flag with one rule and a share."""
    condition = CONDITIONS[number % 20](number)
    rule = {"id": "beta", "condition": condition, "serve": "on", "share": {"percent": 50}}
    return {
        "variants": {"on": True, "off": False},
        "offVariant": "off",
        "rules": [rule],
        "default": "off",
        "description": f"Flag number {number}",
        "owner": f"team-{number % 40}",
        "tags": [f"area-{number % 25}"],
    }


def make(folder: Path, *, flags: int, revisions_each: int = REVISIONS_EACH) -> str:
    """The database's URL. Its newest revisions are those that were imported; the others lie before them."""
    document = {"flags": {f"flag-{number:05}": small_flag(number) for number in range(flags)}}
    url = ""
    for name in ENVIRONMENTS:
        url, _ = import_document(document, folder, "--environment", name, "--no-sync")
    if revisions_each > 1:
        with closing(sqlite3.connect(folder / "flags.db")) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            _age(connection, revisions_each)
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return url


def _age(connection: sqlite3.Connection, revisions_each: int) -> None:
    """Commit every flag of every environment again and again, each time with another share; at last with its own."""
    query = "SELECT sequence, hash FROM audit_entry WHERE project = 'default' ORDER BY sequence DESC LIMIT 1"
    sequence, previous = connection.execute(query).fetchone()
    rows: list[tuple[Any, ...]] = []
    entries: list[tuple[Any, ...]] = []
    revisions = dict(connection.execute("SELECT key, revision FROM environment"))
    for commit in _commits(connection, revisions_each):
        sequence += 1
        revisions[commit.environment] += 1
        entry = _entry(commit, sequence=sequence, revision=revisions[commit.environment])
        digest = chain_hash(entry, previous)
        at = entry.at.strftime("%Y-%m-%d %H:%M:%S.%f")
        rows.append(("default", commit.environment, entry.revision, "flag", commit.key, commit.after, at))
        entries.append(tuple({**asdict(entry), "at": at, "previous_hash": previous, "hash": digest}.values()))
        previous = digest
        if len(rows) >= _AT_ONCE:
            _write(connection, rows, entries)
    _write(connection, rows, entries)
    connection.executemany(
        "UPDATE environment SET revision = ? WHERE key = ?", [(at, key) for key, at in revisions.items()]
    )


@dataclass(frozen=True, slots=True)
class _Commit:
    number: int
    environment: str
    key: str
    before: str
    after: str


def _commits(connection: sqlite3.Connection, revisions_each: int) -> Iterator[_Commit]:
    query = "SELECT environment, key, document FROM revision WHERE kind = 'flag' ORDER BY environment, key"
    found = list(connection.execute(query))
    before = [document for _, _, document in found]
    number = 0
    for turn in range(2, revisions_each + 1):
        share = 50 if turn == revisions_each else turn
        for place, (environment, key, document) in enumerate(found):
            number += 1
            after = document.replace('"percent":50', f'"percent":{share}')
            yield _Commit(number, environment, key, before[place], after)
            before[place] = after


def _entry(commit: _Commit, *, sequence: int, revision: int) -> AuditEntry:
    return AuditEntry(
        project="default",
        sequence=sequence,
        environment=commit.environment,
        revision=revision,
        actor=f"token:{commit.number % 20}",
        action="flag.updated",
        subject_kind="flag",
        subject_key=commit.key,
        before=commit.before,
        after=commit.after,
        reason="ramp",
        cause="",
        request_id="",
        at=BEGAN_AT + timedelta(seconds=EVERY_S * commit.number),
    )


def _write(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], entries: list[tuple[Any, ...]]) -> None:
    connection.executemany("INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany(
        f"INSERT INTO audit_entry ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})", entries
    )
    rows.clear()
    entries.clear()
