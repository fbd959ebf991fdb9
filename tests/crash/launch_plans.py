"""Prove that launch plans' items are done exactly once, an instant in one revision, whoever dies over them.

Processes that carry plans on are killed with SIGKILL at every failpoint and at random instants. Afterwards the plans
that were made are held against flags' revisions, the plans' steps, the audit trail and the outbox, by plain queries.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from server.core.access import OPEN, Action
from server.core.change_requests.codec import Content, Proposed
from server.core.changes import PutFlag
from server.core.edits import SetEnabled
from server.core.launch_plans.plan import Item, Plan
from server.operations.launch_plans.planning import LaunchPlans
from server.operations.writes import Write, Writer
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.crash.databases import Databases, Look, Place
from tests.crash.proofs import Effort, Results
from tests.crash.timed import Run, Worker, count_of, cycles, finish, instant_of, kill_in_turn, on_both, wait_until
from tests.store.definitions import flag, open_shop, put

PLANS: Final = 8
LATER_S: Final = 3_600.0
"""The second instant of each plan is so much later; workers' clocks are set forward for it."""

FAILPOINTS: Final = ("plan.due", "plan.carried_on", "plan.committed")
ROUND: Final = ("plan.carried_on", "killed at random", "plan.committed", "plan.due", "catch-up")


@dataclass(frozen=True, slots=True)
class Launch:
    """A plan of the proof: it turns two flags on at T-0, and one of them off an hour later."""

    id: str
    flags: tuple[str, str]
    at: datetime


def prove(effort: Effort) -> Results:
    """Hurt who carries plans on again and again, on both kinds of database in turn, and look at what came of them."""
    with on_both(effort, template) as run:
        for what, place, where in cycles(run, ROUND):
            launches = plan(place, lead_s=0.0 if what == "catch-up" else 1.5)
            _cycle(run, what, place)
            verify(place, launches, run.results, where=where)
            run.results.note("plans", len(launches))
    return run.results


def template(made: Databases) -> Place:
    """Flags that are off, two for each plan."""
    place = made.new("template")
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    put(engine, *(PutFlag(flag(f"{name}{number}", enabled=False)) for number in range(PLANS) for name in "ab"))
    engine.dispose()
    return place


def plan(place: Place, *, lead_s: float) -> list[Launch]:
    """Make plans and start them; all are due at about the same instant."""
    engine = open_engine(place.url)
    plans, made = LaunchPlans(Writer(engine)), []
    begin = datetime.now(UTC) + timedelta(seconds=lead_s)
    for number in range(PLANS):
        at = begin + timedelta(milliseconds=50 * number)
        # As asked an hour ago: on a slow machine the instant may come while the others are still being made.
        write = Write(OPEN, Action.EDIT, at - timedelta(hours=1))
        items = (
            _item("a", "T-0", SetEnabled(f"a{number}", True)),
            _item("b", "T-0", SetEnabled(f"b{number}", True)),
            _item("end", "T+1h", SetEnabled(f"a{number}", False)),
        )
        id = plans.create(write, project="shop", plan=Plan(f"Launch {number}", "UTC", at, items)).stored.id
        plans.start(write, project="shop", id=id)
        made.append(Launch(id, (f"a{number}", f"b{number}"), at))
    engine.dispose()
    return made


def _item(id: str, offset: str, change: SetEnabled) -> Item:
    return Item(id, offset, Content((Proposed("production", (change,)),)), Action.EDIT)


def _cycle(run: Run, what: str, place: Place) -> None:
    def launched() -> bool:
        return count_of(place, "SELECT count(*) FROM launch_plan_step WHERE happening = 'executed'") >= PLANS

    def ended() -> bool:
        return count_of(place, "SELECT count(*) FROM launch_plan WHERE state != 'completed'") == 0

    if what == "killed at random":
        count = 2 if place.is_file else run.chance.choice((2, 4))
        kill_in_turn(run, place, count=count, until=launched, end_at=time.monotonic() + 4, failpoints=FAILPOINTS)
    elif what in FAILPOINTS:
        for _ in range(2):
            with closing(Worker(place, failpoint=what)) as worker:
                run.results.equal("the failpoint was reached", -signal.SIGKILL, worker.process.wait(60), where=what)
                run.results.note("kills")
    finish(place, launched)
    # The second instant: one dies over it, too.
    with closing(
        Worker(place, failpoint="plan.committed" if what == "catch-up" else run.chance.choice(FAILPOINTS))
    ) as w:
        w.wait_ready()
        w.set_clock(LATER_S + 5)
        wait_until(lambda: w.process.poll() is not None)
        run.results.note("kills")
    finish(place, ended, beside_s=LATER_S + 5)


def verify(place: Place, launches: Sequence[Launch], results: Results, *, where: str) -> None:
    """Look at what came of each plan."""
    with closing(Look(place)) as look:
        results.equal("the database finds nothing wrong", [], look.problems(), where=where)
        steps = look.execute(
            "SELECT launch_plan, items, at FROM launch_plan_step WHERE happening = 'executed'"
            " ORDER BY launch_plan, number"
        ).fetchall()
        served: dict[str, list[tuple[int, bool]]] = {}
        for key, revision, document in look.execute(
            "SELECT key, revision, document FROM revision WHERE environment = 'production' AND kind = 'flag'"
            " ORDER BY revision"
        ).fetchall():
            served.setdefault(key, []).append((revision, '"enabled":false' not in document))
        causes = Counter(
            look.execute(
                "SELECT cause, subject_key FROM audit_entry WHERE subject_kind = 'flag' AND cause LIKE 'plan:%'"
            ).fetchall()
        )
        told = Counter(
            json.loads(payload)["key"]
            for (payload,) in look.execute("SELECT payload FROM outbox WHERE type = 'plan.executed'").fetchall()
        )
        flags_told = Counter(
            json.loads(payload)["key"]
            for (payload,) in look.execute(
                "SELECT payload FROM outbox WHERE type IN ('flag.enabled', 'flag.disabled')"
            ).fetchall()
        )
        states = dict(look.execute("SELECT id, state FROM launch_plan").fetchall())
    for each in launches:
        here = f"{where}, {each.id}"
        mine = [(json.loads(items), instant_of(at)) for id, items, at in steps if id == each.id]
        done = [items for items, _ in mine]
        results.equal("each item was done once, in order", [["a", "b"], ["end"]], done, where=here)
        results.equal("each plan is complete", "completed", states.get(each.id), where=here)
        first, second = each.flags
        shown = {key: [on for _, on in served.get(key, [])] for key in each.flags}
        expected = {first: [False, True, False], second: [False, True]}
        results.equal("each change is a revision, once and in order", expected, shown, where=here)
        together = {served[key][1][0] for key in each.flags if len(served.get(key, [])) > 1}
        results.check("an instant is one revision", len(together) == 1, here)
        later = each.at + timedelta(seconds=LATER_S)
        made = [
            causes[f"plan:{each.id}@{at.isoformat()}", key]
            for at, key in ((each.at, first), (each.at, second), (later, first))
        ]
        results.equal("each change is in the audit trail once", [1, 1, 1], made, where=here)
        results.equal("each instant was announced once", 2, told[each.id], where=here)
        results.equal("each change was announced once", (2, 1), (flags_told[first], flags_told[second]), where=here)
        instants = [at for _, at in mine]
        early = [at for at, due in zip(instants, (each.at, later), strict=False) if at < due]
        results.equal("none was early", [], early, where=here)
