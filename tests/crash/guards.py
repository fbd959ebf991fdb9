"""Prove that a breach leads to exactly one roll-back, and that each observation counts once, whoever dies over it.

Batches are recorded by processes that judge guards, and that are killed with SIGKILL at every failpoint and at random
instants. What was not acknowledged is sent again, with its number, to another process; so is, now and then, what was.
Last comes the breach: its process dies as soon as it has acknowledged it, and another one has to find it. Or it sleeps
from then on and wakes again, or clocks have been set forward and back before.
"""

import json
import signal
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from server.core.access import OPEN, Action
from server.core.changes import PutFlag
from server.core.guards.guards import Guard
from server.core.guards.policies import Policy, Reach, ReachKind, Trigger, TriggerKind
from server.core.metrics.metrics import Metric, MetricKind
from server.operations.guards.managing import Guards
from server.operations.metrics import Metrics
from server.operations.writes import Write, Writer
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.crash.databases import Databases, Look, Place
from tests.crash.proofs import Effort, Results
from tests.crash.timed import PATIENCE_S, Run, Worker, count_of, cycles, on_both, wait_until
from tests.store.definitions import flag, open_shop, put

INTERVAL_S: Final = 1.0
"""Of the guard: another process finds by then what the one that took it died over."""

HEARD_S_MAX: Final = INTERVAL_S + 4.0
"""From an acknowledgement by a process that died, to the roll-back by another one; this machine may be busy."""

BATCHES: Final = 12
REQUESTS: Final = 10
SLEEP_S: Final = 1.5
"""So long one sleeps; others do its work, or find it unchanged when its transaction is over."""

FAILPOINTS: Final = ("metrics.applied", "metrics.committed", "guards.claimed", "guards.judged", "guards.committed")
ROUND: Final = (
    "guards.judged",
    "metrics.committed",
    "killed at random",
    "guards.committed",
    "metrics.applied",
    "guards.claimed",
    "asleep",
    "clocks set",
)
"""What happens in turn; the first four are what the suite has time for."""


@dataclass(slots=True)
class Journal:
    """What was sent, and when the breach was acknowledged."""

    sent: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Sequence -> errors and requests of a batch that was acknowledged."""

    breached_at: datetime | None = None


class Pair:
    """Two processes, of which one is spoken to; it is replaced when it dies."""

    def __init__(self, run: Run, place: Place, *, failpoint: str = "") -> None:
        self._run, self._place = run, place
        self.spoken = Worker(place, failpoint=failpoint).wait_ready()
        self.other = Worker(place).wait_ready()

    def replace(self) -> None:
        """Have the other one spoken to from now on, and a new one beside it; the old one dies."""
        self.spoken.kill()
        self.spoken.close()
        self._run.results.note("kills")
        self.spoken, self.other = self.other, Worker(self._place).wait_ready()

    def close(self) -> None:
        """End both."""
        self.spoken.close()
        self.other.close()


def prove(effort: Effort) -> Results:
    """Hurt who records and judges again and again, on both kinds of database in turn, and look at what came of it."""
    with on_both(effort, template) as run:
        for what, place, where in cycles(run, ROUND):
            watch(place)
            journal = _cycle(run, what, place)
            verify(place, journal, run.results, where=where)
            run.results.note("batches", len(journal.sent))
    return run.results


def template(made: Databases) -> Place:
    """A flag and a metric."""
    place = made.new("template")
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    put(engine, PutFlag(flag("f0")))
    Metrics(engine).create("shop", Metric("errors", MetricKind.RATIO), Write(OPEN, Action.EDIT, datetime.now(UTC)))
    engine.dispose()
    return place


def watch(place: Place) -> None:
    """A guard over the metric, and a policy that turns the flag off."""
    engine = open_engine(place.url)
    guards, write = Guards(Writer(engine)), Write(OPEN, Action.EDIT, datetime.now(UTC))
    guard = Guard("errors", "production", metric="errors", flag="f0", variant="on", high=0.5, interval_s=INTERVAL_S)
    guards.create_guard("shop", guard, write)
    trigger = Trigger(TriggerKind.METRIC, "errors")
    policy = Policy("safe", "production", (trigger,), Reach(ReachKind.FLAG, "f0"))
    guards.create_policy("shop", policy, write)
    engine.dispose()


def _cycle(run: Run, what: str, place: Place) -> Journal:
    journal = Journal()
    with closing(Pair(run, place, failpoint=what if what in FAILPOINTS else "")) as pair:
        for sequence in range(1, BATCHES + 1):
            if what == "killed at random" and run.chance.random() < 0.3:
                pair.replace()
            if what == "clocks set":
                _set_clocks(run, pair, 0.0 if sequence == BATCHES else run.chance.choice((3_600.0, -86_400.0, 0.0)))
            _send(run, pair, journal, sequence, 0)
            if run.chance.random() < 0.3:
                # As a producer does that has not heard the answer.
                again = run.chance.choice(sorted(journal.sent))
                became = pair.spoken.observe(again, *journal.sent[again])
                if not became:
                    pair.replace()
                run.results.check("what was applied is known", became in ("", "duplicate"), f"{again}: {became}")
        # Enough errors to fail, whatever came before.
        run.results.equal("nothing was rolled back before the breach", 0, _rolled_back(place), where=what)
        _send(run, pair, journal, BATCHES + 1, 1_000, requests=1_000)
        journal.breached_at = datetime.now(UTC)
        if what == "asleep":
            _sleep(run, pair.spoken)
        began = time.monotonic()
        if what != "asleep":
            pair.replace()
        heard = wait_until(lambda: _rolled_back(place) > 0, HEARD_S_MAX)
        heard_ms = round(1_000 * (time.monotonic() - began))
        run.results.check("another process hears of a breach in time", heard, f"{what}: {heard_ms} ms")
        run.results.notes["ms to a roll-back at most"] = max(
            heard_ms, run.results.notes.get("ms to a roll-back at most", 0)
        )
        # It goes on to fail; that leads to nothing more.
        _send(run, pair, journal, BATCHES + 2, 1_000, requests=1_000)
        time.sleep(2 * INTERVAL_S)
    return journal


def _sleep(run: Run, worker: Worker) -> None:
    worker.process.send_signal(signal.SIGSTOP)
    run.results.note("sleeps")
    time.sleep(SLEEP_S)
    worker.process.send_signal(signal.SIGCONT)


def _set_clocks(run: Run, pair: Pair, beside_s: float) -> None:
    for worker in (pair.spoken, pair.other):
        worker.set_clock(beside_s)
        run.results.note("clocks set")
    # Somebody judges by it.
    time.sleep(run.chance.uniform(0.0, 0.4))


def _send(run: Run, pair: Pair, journal: Journal, sequence: int, errors: int, *, requests: int = REQUESTS) -> None:
    """Send a batch until somebody acknowledges it."""
    end_at = time.monotonic() + PATIENCE_S
    unknown = False
    while time.monotonic() < end_at:
        became = pair.spoken.observe(sequence, errors, requests)
        if became:
            fine = ("applied", "duplicate") if unknown else ("applied",)
            run.results.check("a new batch is applied", became in fine, f"{sequence}: {became}")
            journal.sent[sequence] = (errors, requests)
            return
        unknown = True
        pair.replace()


def _rolled_back(place: Place) -> int:
    return count_of(place, "SELECT count(*) FROM audit_entry WHERE action = 'guard.rolled_back'")


def verify(place: Place, journal: Journal, results: Results, *, where: str) -> None:
    """Look at what was counted, and at what came of the breach."""
    with closing(Look(place)) as look:
        results.equal("the database finds nothing wrong", [], look.problems(), where=where)
        cells = look.execute("SELECT count, mean, denominator_mean FROM metric_sum WHERE metric = 'errors'").fetchall()
        served = _documents(look)
        changes = look.execute(
            "SELECT cause FROM audit_entry WHERE subject_kind = 'flag' AND actor = 'guard:safe'"
        ).fetchall()
        audited = _count(look, "SELECT count(*) FROM audit_entry WHERE action = 'guard.rolled_back'")
        announced = _count(look, "SELECT count(*) FROM outbox WHERE type = 'guard.rolled_back'")
        flags_told = _count(look, "SELECT count(*) FROM outbox WHERE type = 'flag.disabled'")
        kept = _count(look, "SELECT count(*) FROM guard_evaluation WHERE outcome = 'rolled_back'")
    counted = (sum(n for n, _, _ in cells), round(sum(n * mean for n, mean, _ in cells)))
    requests = sum(each for _, each in journal.sent.values())
    errors = sum(each for each, _ in journal.sent.values())
    results.equal("each observation is counted once", (requests, errors), counted, where=where)
    results.equal("the flag was switched off once", [True, False], served, where=where)
    results.equal("the switch has one cause", 1, len(changes), where=where)
    results.equal("one roll-back is told", (1, 1, 1, 1), (audited, announced, flags_told, kept), where=where)


def _documents(look: Look) -> list[bool]:
    rows: Sequence[Any] = look.execute(
        "SELECT document FROM revision WHERE environment = 'production' AND kind = 'flag' ORDER BY revision"
    ).fetchall()
    return [json.loads(document).get("enabled", True) for (document,) in rows]


def _count(look: Look, query: str) -> int:
    found: int = look.execute(query).fetchone()[0]
    return found
