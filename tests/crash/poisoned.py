"""Share what the proof of bad definitions needs: a database with the shop, contexts to ask, answers to compare."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from server.core.evaluation.snapshot import Snapshot
from server.operations.flagsets import Place, Wanted, import_definitions, read_definitions
from server.rpc.convert import ours_slice
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.crash.mutants import FLAG, KEY, Mutant
from tests.crash.proofs import Results
from tests.fuzz import bases
from tests.fuzz.checks import NOW

PROJECT: Final = bases.PROJECT
ENVIRONMENT: Final = bases.ENVIRONMENT
SET: Final = f"{PROJECT}/{ENVIRONMENT}"
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXTS: Final[Sequence[Mapping[str, Any]]] = (
    {},
    {"targetingKey": "alice", "email": "ann@shop.example", "country": "FR"},
    {"targetingKey": "carol", "email": "x", "plan": "pro", "age": 18.0, "client": {"kind": "app", "version": "2.5.0"}},
    {"targetingKey": "33333", "beta": True, "tags": ["a", "abc"], "scores": [1.0, 2.0], "user": {"name": "é"}},
)
FLAG_COLUMNS: Final = "project, key, type, kind, owner, document"
PART_COLUMNS: Final = "project, environment, key, document"
ENVIRONMENT_COLUMNS: Final = "project, key, name, bucketing, critical, metadata_document, source, revision, created_at"
ODD_KEYS: Final[Sequence[str]] = (
    *("''", "' '", "'a/b~c'", "'é' || char(0) || 'x'", "x'00ff'", "CAST(x'eda080' AS TEXT)", "CAST(x'ff41' AS TEXT)"),
    *("17", "1.5", "printf('%.*c', 5000, 'k')", "'$ref'", "'__proto__'"),
)
"""Keys of rows, as SQL: blank, of bytes, no UTF-8, numbers, very long."""


def new_database(path: Path) -> Engine:
    """A database with the shop."""
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    definitions = read_definitions(bases.documents()[0].encode(), name="shop.json", place=Place(PROJECT, ENVIRONMENT))
    import_definitions(engine, definitions, wanted=Wanted(), actor="proof", now=AT)
    return engine


def open_raw(path: Path) -> sqlite3.Connection:
    """A connection that keeps none of the rules."""
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("foreign_keys = OFF", "ignore_check_constraints = ON", "synchronous = OFF"):
        database.execute(f"PRAGMA {pragma}")
    triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        database.execute(f'DROP TRIGGER "{name}"')
    return database


def write_rows(database: sqlite3.Connection, made: Iterable[Mutant], *, odd_key: Callable[[], str | None]) -> None:
    """Put mutants beside the good rows, past every check; an odd key, as SQL, stands in place of a plain one."""
    for number, mutant in enumerate(made):
        key = odd_key() or f"'{KEY}-{number}'"
        text = sql_text(mutant.text)
        if mutant.kind == FLAG:
            flag, config = (text, "'{}'") if number % 2 else ("'{}'", text)
            _insert(database, "flag", f"'{PROJECT}', {key}, 'boolean', 'release', '', {flag}", FLAG_COLUMNS)
            _insert(database, "flag_config", f"'{PROJECT}', '{ENVIRONMENT}', {key}, {config}", PART_COLUMNS)
        else:
            _insert(database, "segment", f"'{PROJECT}', '{ENVIRONMENT}', {key}, {text}", PART_COLUMNS)


def _insert(database: sqlite3.Connection, table: str, values: str, columns: str) -> None:
    database.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({values})")


def sql_text(text: bytes) -> str:
    """Bytes as SQL that makes a text of them, whether they are one or not."""
    return f"CAST(x'{text.hex()}' AS TEXT)"


def signature(snapshot: Snapshot, keys: Iterable[str]) -> dict[str, list[Any]]:
    """What some flags answer: value, variant and reason, and the encoded reply."""
    return {
        key: [
            (answer.value, answer.variant, answer.reason, ours_slice(answer))
            for answer in (snapshot.resolve(key, context, NOW) for context in CONTEXTS)
        ]
        for key in keys
    }


def hold(results: Results, invariant: str, look: Callable[[], None], by: object) -> bool:
    """Count one look; anything that it raises is a break."""
    broke = ""
    try:
        look()
    except Exception as error:
        broke = f"{type(error).__name__} {error}"[:400]
    results.check(invariant, not broke, f"{broke} by {by}")
    return not broke
