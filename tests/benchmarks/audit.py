"""Measure how many audit entries a second a verification reads, in a trail of real documents."""

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, insert

from server.core.audit import AuditEntry
from server.store import tables
from server.store.audit import append_entries, verify_trail
from server.store.engine import open_engine, writing
from server.store.migrations import migrate
from tests.benchmarks.figures import HIGHER, Figure, Goal, Say, spread
from tests.benchmarks.samples import scale_flag

ENTRIES: Final = 200_000
FLAGS: Final = 10_000
ROUNDS: Final = 5
SPEED_GOAL: Final = Goal("value", HIGHER, 100_000)
_NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
SMALL: Final = json.dumps(
    {"type": "boolean", "variants": {"on": True, "off": False}, "default": "off", "offVariant": "off"},
    separators=(",", ":"),
)


def run(say: Say) -> list[Figure]:
    """Whole trails, from the file, as `flagstaff audit verify` reads them; nothing is cached by us."""
    large = json.dumps(scale_flag(1), separators=(",", ":"))
    return [
        _figure(say, f"verify, documents of {len(SMALL)} bytes", SMALL),
        _figure(say, f"verify, documents of {len(large)} bytes (five rules)", large),
    ]


def _figure(say: Say, name: str, document: str) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{Path(folder)}/flagstaff.db")
        say(f"writing {ENTRIES:,} entries for: {name}")
        fill(engine, document)
        say("verifying them")
        speeds = [_speed(engine) for _ in range(ROUNDS)]
        engine.dispose()
    return Figure(name, "entries/s", spread(speeds), goal=SPEED_GOAL)


def fill(engine: Engine, document: str, *, entry_count: int = ENTRIES) -> None:
    """Write a trail of its own into a database."""
    migrate(engine)
    with writing(engine) as connection:
        connection.execute(
            insert(tables.projects), [{"key": "shop", "name": "", "event_sequence": 0, "created_at": _NOW}]
        )
        for start in range(0, entry_count, FLAGS):
            append_entries(connection, "shop", entries=[_entry(start + at, document) for at in range(FLAGS)])


def _entry(number: int, document: str) -> AuditEntry:
    return AuditEntry(
        project="shop",
        sequence=0,
        environment=("production", "staging", "development")[number % 3],
        revision=number,
        actor="token:k3Jd92Lq",
        action="flag.updated",
        subject_kind="flag",
        subject_key=f"flag-{number % FLAGS}",
        before=document,
        after=document,
        reason="widen the release",
        cause="",
        request_id=f"request-{number}",
        at=_NOW,
    )


def _speed(engine: Engine) -> float:
    started = time.perf_counter()
    found = verify_trail(engine, "shop")
    took_s = time.perf_counter() - started
    if found.entry_count != ENTRIES or not found.whole:
        raise AssertionError(f"{found.entry_count} entries, {found.breaks[:3]}")
    return ENTRIES / took_s
