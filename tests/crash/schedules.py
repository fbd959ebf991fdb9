"""Prove that each due change is made exactly once, none is lost and none is early, whatever becomes of who makes it.

Processes that execute schedules as servers do are killed with SIGKILL at every failpoint and at random instants, one at
a time and several at once, are put to sleep by SIGSTOP while something is due, and have their clocks set forward and
back. Afterwards the database is looked at with plain queries: none of the code that wrote is asked.
"""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from server.core.access import OPEN, Action
from server.core.changes import PutFlag
from server.core.edits import SetEnabled
from server.core.errors import StoreUnavailable
from server.core.schedules.timing import Timing
from server.operations.schedules.making import Making
from server.operations.schedules.plans import Plan
from server.operations.writes import Write, Writer
from server.store.commit import Part
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.crash.databases import Databases, Look, Place
from tests.crash.proofs import Effort, Results
from tests.crash.timed import (
    PATIENCE_S,
    Run,
    Worker,
    count_of,
    cycles,
    finish,
    instant_of,
    kill_in_turn,
    on_both,
    wait_until,
)  # fmt: skip
from tests.store.definitions import flag, open_shop, put

FLAGS: Final = 40
LEAD_S: Final = 0.4
SPREAD_S: Final = 1.2
"""The instants of a cycle lie within it."""

ATTEMPTS: Final = 5
LOOK_S: Final = 0.05
KILL_S: Final = (1.0, 2.0)
"""From one kill of a storm to the next: a process takes about a second to start."""

WAVE: Final = 20
"""So many are made at a time during a storm."""

STORMS: Final = (("postgresql", 2), ("postgresql", 4), ("sqlite", 2))
FAILPOINTS: Final = ("schedules.claimed", "schedules.applied", "schedules.before_commit", "schedules.after_commit")
ROUND: Final = (
    *("schedules.applied", "killed at random", "schedules.after_commit", "asleep", "clocks set"),
    *("schedules.claimed", "schedules.before_commit", "catch-up"),
)
"""What happens in turn; the first five are what the suite has time for."""


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule of the proof, as it was made: it turns a flag on or off."""

    id: str
    flag: str
    instants: Sequence[datetime]
    enabled: bool = True


def prove(effort: Effort) -> Results:
    """Hurt who executes schedules again and again, on both kinds of database in turn, and look at what came of them."""
    with on_both(effort, _template) as run:
        for what, place, where in cycles(run, ROUND):
            _cycle(run, what, place, where=where)
        if effort.storm_s:
            for kind, count in STORMS:
                if kind in run.made:
                    place = run.made[kind].copy(run.templates[kind], f"storm-{count}")
                    _storm(run, place, count, where=f"{kind}, {count} processes for {effort.storm_s:g} s")
    return run.results


def _template(made: Databases) -> Place:
    place = made.new("template")
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    put(engine, *(PutFlag(flag(f"f{number}", enabled=False)) for number in range(FLAGS)))
    engine.dispose()
    return place


def _cycle(run: Run, what: str, place: Place, *, where: str) -> None:
    if what in FAILPOINTS:
        due = _failpoint(run, what, place, where=where)
    elif what == "catch-up":
        due = _catch_up(run, place)
    elif what == "killed at random":
        due = _at_random(run, place, count=2 if place.is_file else run.chance.choice((2, 4)))
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
    due = schedule(place, run.chance, count=FLAGS - 1, lead_s=2.0, spread_s=SPREAD_S)
    end_at = time.monotonic() + 2.0 + SPREAD_S
    kill_in_turn(run, place, count=count, until=lambda: _nothing_waits(place), end_at=end_at)
    return due


def _storm(run: Run, place: Place, count: int, *, where: str) -> None:
    """Several at once for long, dying at random and at failpoints, while each flag is turned on and off again."""
    workers = [Worker(place).wait_ready() for _ in range(count)]
    due: list[Due] = []
    end_at = time.monotonic() + run.effort.storm_s
    kill_at = time.monotonic() + KILL_S[0]
    turn_on = True
    try:
        while time.monotonic() < end_at:
            due += schedule(
                place, run.chance, count=WAVE, lead_s=2.0, spread_s=SPREAD_S, enabled=turn_on, instants_apart=True
            )
            turn_on = not turn_on
            _look_meanwhile(run, place, due[-WAVE:], where=where)
            wave_end_at = max(each.instants[0] for each in due[-WAVE:])
            while datetime.now(UTC) < wave_end_at:
                _look_meanwhile(run, place, due[-WAVE:], where=where)
                time.sleep(LOOK_S)
                if time.monotonic() < kill_at:
                    continue
                # Who was started last is at work by then: dead ones alone would prove nothing.
                kill_at = time.monotonic() + run.chance.uniform(*KILL_S)
                number = run.chance.randrange(count)
                workers[number].kill()
                workers[number].close()
                workers[number] = Worker(place, failpoint=run.chance.choice(("", "", *FAILPOINTS)))
                run.results.note("kills")
        if not wait_until(lambda: _nothing_waits(place), 3.0):
            # Who was started last may be those that die at a failpoint, all of them.
            _finish(place, due)
    finally:
        for worker in workers:
            worker.close()
    run.results.note("instants", len(due))
    verify(place, due, run.results, where=where)


def _look_meanwhile(run: Run, place: Place, due: Sequence[Due], *, where: str) -> None:
    """Nothing is made yet whose instant is to come, by the clock of the proof and not of who makes it."""
    with closing(Look(place)) as look:
        rows = look.execute("SELECT schedule FROM schedule_step WHERE instant IS NOT NULL").fetchall()
    made, now = {id for (id,) in rows}, datetime.now(UTC)
    early = [each.id for each in due if each.id in made and each.instants[0] > now]
    run.results.equal("nothing is made before its instant, by the proof's clock", [], early, where=where)


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
        wait_until(lambda: _nothing_waits(place))
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
        wait_until(lambda: _nothing_waits(place))
    return due


def schedule(
    place: Place,
    chance: random.Random,
    *,
    count: int,
    lead_s: float,
    spread_s: float,
    enabled: bool = True,
    instants_apart: bool = False,
) -> list[Due]:
    """Make schedules that each turn a flag of its own on or off, many of them at the same instant or none."""
    engine = open_engine(place.url)
    making = Making(Writer(engine))
    begin = datetime.now(UTC) + timedelta(seconds=lead_s + 0.004 * count)
    due: list[Due] = []
    for number in range(count):
        later_s = chance.uniform(0, spread_s)
        at = begin + timedelta(seconds=later_s if instants_apart else chance.choice((0.0, later_s)))
        due.append(_made(making, f"f{number}", at, enabled=enabled))
    engine.dispose()
    return sorted(due, key=lambda each: each.instants[0])


def _made(making: Making, key: str, at: datetime, *, enabled: bool) -> Due:
    # As asked an hour ago: on a slow machine the instant may come while the others are still being made.
    write = Write(OPEN, Action.EDIT, at - timedelta(hours=1), reason=key)
    timing = Timing(at=at, grace_s=3_600)
    plan = Plan([Part("production", [SetEnabled(key, enabled)])], timing=timing, accept_conflicts=True)
    return Due(_created(making, write, plan), key, [at], enabled)


def _created(making: Making, write: Write, plan: Plan) -> str:
    # The workers' transactions follow on each other, and SQLite lets nobody queue: people try again, too.
    for _ in range(ATTEMPTS - 1):
        try:
            return making.create(write, project="shop", plan=plan).schedule.id
        except StoreUnavailable:
            continue
    return making.create(write, project="shop", plan=plan).schedule.id


def _finish(place: Place, due: Sequence[Due]) -> None:
    assert due
    finish(place, lambda: _nothing_waits(place))


def _nothing_waits(place: Place) -> bool:
    return count_of(place, "SELECT count(*) FROM schedule WHERE state = 'pending'") == 0


def verify(place: Place, due: Sequence[Due], results: Results, *, where: str) -> None:
    """Look at what came of each instant."""
    with closing(Look(place)) as look:
        steps = look.execute("SELECT schedule, instant, happening, at FROM schedule_step WHERE instant IS NOT NULL")
        outcomes = [(id, instant_of(at), happening, instant_of(done)) for id, at, happening, done in steps.fetchall()]
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
        served: dict[str, list[bool]] = {}
        for key, document in look.execute(
            "SELECT key, document FROM revision WHERE environment = 'production' AND kind = 'flag' ORDER BY revision"
        ).fetchall():
            served.setdefault(key, []).append('"enabled":false' not in document)
        flags_told = Counter(
            json.loads(payload)["key"]
            for (payload,) in look.execute(
                "SELECT payload FROM outbox WHERE type IN ('flag.enabled', 'flag.disabled')"
            ).fetchall()
        )
        results.equal("the database finds nothing wrong", [], look.problems(), where=where)
    for each in due:
        mine = [(at, happening) for id, at, happening, _ in outcomes if id == each.id]
        here = f"{where}, {each.id}"
        results.equal("each instant was executed once", [(at, "executed") for at in each.instants], mine, where=here)
        made = [causes[f"schedule:{each.id}@{at.isoformat()}"] for at in each.instants]
        results.equal("each change was made once", [1] * len(each.instants), made, where=here)
        results.equal("each is in the audit trail once", len(each.instants), told[each.id], where=here)
        results.equal("nothing waits any more", "done", states.get(each.id), where=here)
    journal: dict[str, list[bool]] = {}
    for each in sorted(due, key=lambda each: each.instants[0]):
        journal.setdefault(each.flag, [False]).append(each.enabled)
    for key, wanted in journal.items():
        here = f"{where}, {key}"
        results.equal("each change is a revision, in the order of the instants", wanted, served.get(key), where=here)
        results.equal("each change was announced once", len(wanted) - 1, flags_told[key], where=here)
    expected_on = {key for key, wanted in journal.items() if wanted[-1]}
    results.equal("the flags are as the schedules say", expected_on, on, where=where)
    results.equal("each was announced once", sum(len(each.instants) for each in due), announced, where=where)
    early = [(id, at, done) for id, at, _, done in outcomes if done < at]
    results.equal("none was early", [], early, where=where)
