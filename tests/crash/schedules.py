"""Prove that each due change is made exactly once, none is lost and none is early, whatever becomes of who makes it.

Processes that execute schedules as servers do are killed with SIGKILL at every failpoint and at random instants, one at
a time and several at once, are put to sleep by SIGSTOP while something is due, and have their clocks set forward and
back. Afterwards the database is looked at with plain queries: none of the code that wrote is asked.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from server.core.access import OPEN, Action
from server.core.changes import PutFlag
from server.core.edits import SetEnabled
from server.core.schedules.timing import Timing
from server.operations.schedules.making import Making
from server.operations.schedules.plans import Plan
from server.operations.writes import Write, Writer
from server.store.commit import Part
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.crash.databases import Databases, Look, Place, databases
from tests.crash.proofs import Effort, Results
from tests.postgres import NoServer
from tests.store.definitions import flag, open_shop, put

FLAGS: Final = 40
LEAD_S: Final = 0.4
SPREAD_S: Final = 1.2
"""The instants of a cycle lie within it."""

PATIENCE_S: Final = 60.0
FAILPOINTS: Final = ("schedules.claimed", "schedules.applied", "schedules.before_commit", "schedules.after_commit")
ROUND: Final = (
    *("schedules.applied", "killed at random", "schedules.after_commit", "asleep", "clocks set"),
    *("schedules.claimed", "schedules.before_commit", "catch-up"),
)
"""What happens in turn; the first five are what the suite has time for."""

STORMS: Final = (2, 4)
"""Processes of which one after the other is killed, on PostgreSQL, while schedules are made and come due."""

STORM_S: Final = 0.75
"""Of each storm for each cycle: five minutes of both together with 200 cycles."""

STORM_BATCH: Final = 4
STORM_BATCH_S: Final = 0.5
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule of the proof: it turns a flag on."""

    id: str
    flag: str
    instants: Sequence[datetime]


@dataclass(slots=True)
class Run:
    """One run of the proof."""

    effort: Effort
    chance: random.Random
    results: Results
    made: dict[str, Databases] = field(default_factory=dict)
    templates: dict[str, Place] = field(default_factory=dict)


class Worker:
    """A process that executes schedules."""

    def __init__(self, place: Place, *, failpoint: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLAGSTAFF_FAILPOINT": failpoint}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.schedule_worker", place.url],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def wait_ready(self) -> "Worker":
        """It looks by now, unless it was killed."""
        assert self.process.stdout is not None
        self.process.stdout.readline()
        return self

    def set_clock(self, beside_s: float) -> None:
        """Have its clock show so many seconds beside the system's."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{beside_s}\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Let it end, also when it sleeps."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                # What was not read by a killed process is no matter.
                with closing(stream) if stream.readable() else _quietly(stream):
                    pass


@contextmanager
def _quietly(stream: Any) -> Iterator[None]:
    yield
    try:
        stream.close()
    except BrokenPipeError:
        return


def prove(effort: Effort) -> Results:
    """Hurt who executes schedules again and again, on both kinds of database in turn, and look at what came of them."""
    run = Run(effort, random.Random(effort.seed), Results())
    with ExitStack() as stack:
        for kind in ("sqlite", "postgresql"):
            directory = Path(effort.directory) / kind
            directory.mkdir()
            try:
                run.made[kind] = stack.enter_context(databases(directory, kind))
            except NoServer as error:
                run.results.check("there is a PostgreSQL server", os.environ.get("CI") != "true", str(error))
                continue
            run.templates[kind] = _template(run.made[kind])
        kinds = list(run.made)
        for cycle in range(effort.cycles):
            what = ROUND[cycle % len(ROUND)]
            # A round begins with the other kind, so that each is hurt in every way.
            kind = kinds[(cycle + cycle // len(ROUND)) % len(kinds)]
            place = run.made[kind].copy(run.templates[kind], f"cycle-{cycle}")
            _cycle(run, what, place, where=f"{kind}, cycle {cycle} ({what})", many=kind == "postgresql")
            run.results.note("cycles")
        if "postgresql" in run.made:
            for count in STORMS:
                _storm(run, run.made["postgresql"], count=count, duration_s=STORM_S * effort.cycles)
    return run.results


def _template(made: Databases, name: str = "template", *, flag_count: int = FLAGS) -> Place:
    place = made.new(name)
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    put(engine, *(PutFlag(flag(f"f{number}", enabled=False)) for number in range(flag_count)))
    engine.dispose()
    return place


def _cycle(run: Run, what: str, place: Place, *, where: str, many: bool) -> None:
    if what in FAILPOINTS:
        due = _failpoint(run, what, place, where=where)
    elif what == "catch-up":
        due = _catch_up(run, place)
    elif what == "killed at random":
        due = _at_random(run, place, count=run.chance.choice((2, 4)) if many else 2)
    elif what == "asleep":
        due = _asleep(run, place)
    else:
        due = _clocks(run, place)
    run.results.note("instants", sum(len(each.instants) for each in due))
    verify(place, due, run.results, where=where)


def _failpoint(run: Run, name: str, place: Place, *, where: str) -> list[Due]:
    """One dies at a point; the next one makes up for it."""
    worker = Worker(place, failpoint=name).wait_ready()
    try:
        due = schedule(place, run.chance, count=6, lead_s=LEAD_S, spread_s=0.3)
        status = worker.process.wait(PATIENCE_S)
        run.results.equal("the failpoint was reached", -signal.SIGKILL, status, where=where)
        run.results.note("kills")
    finally:
        worker.close()
    _finish(place, due)
    return due


def _catch_up(run: Run, place: Place) -> list[Due]:
    """More than one transaction's worth came due while nobody was there; one dies over it."""
    due = schedule(place, run.chance, count=FLAGS - 1, lead_s=0.6, spread_s=0.1)
    time.sleep(0.7)
    worker = Worker(place, failpoint="schedules.after_commit")
    try:
        worker.process.wait(PATIENCE_S)
        run.results.note("kills")
    finally:
        worker.close()
    _finish(place, due)
    return due


def _at_random(run: Run, place: Place, *, count: int) -> list[Due]:
    """Several at once, of which one after the other dies and comes again."""
    workers = [Worker(place) for _ in range(count)]
    try:
        for worker in workers:
            worker.wait_ready()
        due = schedule(place, run.chance, count=FLAGS - 1, lead_s=LEAD_S, spread_s=SPREAD_S)
        end_at = time.monotonic() + LEAD_S + SPREAD_S
        while time.monotonic() < end_at:
            time.sleep(run.chance.uniform(0.05, 0.3))
            number = run.chance.randrange(count)
            workers[number].kill()
            workers[number].close()
            workers[number] = Worker(place)
            run.results.note("kills")
        _wait(place, due)
    finally:
        for worker in workers:
            worker.close()
    return due


def _storm(run: Run, made: Databases, *, count: int, duration_s: float) -> None:
    """Several at once for long: instants come all the time, and so do kills."""
    batches = max(1, int(duration_s / STORM_BATCH_S))
    place = _template(made, f"storm-{count}", flag_count=batches * STORM_BATCH)
    workers = [Worker(place) for _ in range(count)]
    due: list[Due] = []
    try:
        for worker in workers:
            worker.wait_ready()
        end_at = time.monotonic() + duration_s
        for batch in range(batches):
            first = batch * STORM_BATCH
            due += schedule(place, run.chance, count=STORM_BATCH, lead_s=LEAD_S, spread_s=SPREAD_S, first=first)
            number = run.chance.randrange(count)
            workers[number].kill()
            workers[number].close()
            workers[number] = Worker(place)
            run.results.note("kills")
            # A slow machine makes fewer schedules in the same time, and the proof takes no longer.
            if time.monotonic() > end_at:
                break
            time.sleep(run.chance.uniform(0.0, STORM_BATCH_S))
        _wait(place, due)
    finally:
        for worker in workers:
            worker.close()
    run.results.note("storms")
    run.results.note("instants", sum(len(each.instants) for each in due))
    verify(place, due, run.results, where=f"postgresql, storm of {count} processes")


def _asleep(run: Run, place: Place) -> list[Due]:
    """One sleeps while its instants come, another one does its work; then it wakes and must not do it again."""
    with closing(Worker(place)) as sleeper, closing(Worker(place)) as other:
        sleeper.wait_ready()
        other.wait_ready()
        due = schedule(place, run.chance, count=12, lead_s=LEAD_S, spread_s=0.3)
        time.sleep(run.chance.uniform(0.0, LEAD_S + 0.3))
        sleeper.process.send_signal(signal.SIGSTOP)
        run.results.note("sleeps")
        time.sleep(max(0.0, (max(due[-1].instants) - datetime.now(UTC)).total_seconds()) + 0.3)
        sleeper.process.send_signal(signal.SIGCONT)
        _wait(place, due)
        # It has found what it set its timers for by then.
        time.sleep(0.2)
    return due


def _clocks(run: Run, place: Place) -> list[Due]:
    """The clock goes an hour forward, a day back and forward again: what came due comes once."""
    with closing(Worker(place)) as worker:
        worker.wait_ready()
        due = schedule(place, run.chance, count=8, lead_s=1_800.0, spread_s=60.0)
        for beside_s in (3_600.0, -86_400.0, 0.0, 3_600.0):
            worker.set_clock(beside_s)
            run.results.note("clocks set")
            time.sleep(run.chance.uniform(0.1, 0.3))
        _wait(place, due)
    return due


def schedule(
    place: Place, chance: random.Random, *, count: int, lead_s: float, spread_s: float, first: int = 0
) -> list[Due]:
    """Make schedules that each turn a flag of its own on, from the flag of number `first` on."""
    engine = open_engine(place.url)
    making = Making(Writer(engine))
    begin = datetime.now(UTC) + timedelta(seconds=lead_s + 0.004 * count)
    due: list[Due] = []
    for number in range(first, first + count):
        at = begin + timedelta(seconds=chance.choice((0.0, chance.uniform(0, spread_s))))
        timing = Timing(at=at, grace_s=3_600)
        due.append(_made(making, f"f{number}", timing, [at]))
    engine.dispose()
    return sorted(due, key=lambda each: each.instants[0])


def _made(making: Making, key: str, timing: Timing, instants: Sequence[datetime]) -> Due:
    # As asked an hour ago: on a slow machine the instant may come while the others are still being made.
    write = Write(OPEN, Action.EDIT, min(instants) - timedelta(hours=1), reason=key)
    plan = Plan([Part("production", [SetEnabled(key, True)])], timing=timing)
    went = making.create(write, project="shop", plan=plan)
    return Due(went.schedule.id, key, instants)


def _finish(place: Place, due: Sequence[Due]) -> None:
    """Let somebody sound do what is left."""
    with closing(Worker(place)) as worker:
        worker.wait_ready()
        _wait(place, due)


def _wait(place: Place, due: Sequence[Due]) -> None:
    """Until nothing waits any more, or for so long that it is lost."""
    end_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_at:
        with closing(Look(place)) as look:
            if not look.execute("SELECT count(*) FROM schedule WHERE state = 'pending'").fetchone()[0]:
                return
        time.sleep(0.05)


def verify(place: Place, due: Sequence[Due], results: Results, *, where: str) -> None:
    """Look at what came of each instant."""
    with closing(Look(place)) as look:
        steps = look.execute("SELECT schedule, instant, happening, at FROM schedule_step WHERE instant IS NOT NULL")
        outcomes = [(id, _instant(at), happening, _instant(done)) for id, at, happening, done in steps.fetchall()]
        causes = Counter(
            cause
            for (cause,) in look.execute(
                "SELECT cause FROM audit_entry WHERE subject_kind = 'flag' AND actor LIKE 'schedule:%'"
            ).fetchall()
        )
        told = Counter(
            key
            for (key,) in look.execute(
                "SELECT subject_key FROM audit_entry WHERE action = 'schedule.executed'"
            ).fetchall()
        )
        announced = look.execute("SELECT count(*) FROM outbox WHERE type = 'schedule.executed'").fetchone()[0]
        on = {
            key
            for key, document in look.execute(
                "SELECT key, document FROM flag_config WHERE environment = 'production'"
            ).fetchall()
            if '"enabled":false' not in document
        }
        states = dict(look.execute("SELECT id, state FROM schedule").fetchall())
        results.equal("the database finds nothing wrong", [], look.problems(), where=where)
    for each in due:
        mine = [(at, happening) for id, at, happening, _ in outcomes if id == each.id]
        here = f"{where}, {each.id}"
        results.equal("each instant was executed once", [(at, "executed") for at in each.instants], mine, where=here)
        made = [causes[f"schedule:{each.id}@{at.isoformat()}"] for at in each.instants]
        results.equal("each change was made once", [1] * len(each.instants), made, where=here)
        results.equal("each is in the audit trail once", len(each.instants), told[each.id], where=here)
        results.equal("nothing waits any more", "done", states.get(each.id), where=here)
    results.equal("the flags are as the schedules say", {each.flag for each in due}, on, where=where)
    results.equal("each was announced once", sum(len(each.instants) for each in due), announced, where=where)
    early = [(id, at, done) for id, at, _, done in outcomes if done < at]
    results.equal("none was early", [], early, where=where)


def _instant(value: Any) -> datetime:
    """As the databases give it: text or an instant, in UTC."""
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    found: datetime = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return found
