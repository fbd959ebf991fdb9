"""Prove that each step of a release is taken exactly once, and never past a gate, whatever becomes of who takes it.

Processes that let releases go on, and people who start, approve and roll them back, are killed with SIGKILL at every
failpoint and at random instants; some sleep while others work, and clocks are set. What people were told is a journal;
afterwards it is held against what the database keeps, by plain queries: flags' revisions, the releases' log, the audit
trail and the outbox.
"""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from server.core.access import Action, Grant, Principal, Role
from server.core.changes import PutFlag
from server.core.errors import FlagstaffError
from server.core.releases.plan import Gates, Patch, Plan, Step
from server.core.releases.progress import Act, State
from server.operations.releases.looking import agrees
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from server.store.engine import open_engine, reading
from server.store.migrations import migrate
from server.store.releases import read_events, read_release
from tests.crash import writers
from tests.crash.databases import Databases, Look, Place
from tests.crash.proofs import Effort, Results
from tests.crash.timed import Run, Worker, count_of, cycles, finish, instant_of, kill_in_turn, on_both, wait_until
from tests.operations.protected import EDITOR
from tests.store.definitions import flag, open_shop, put

FLAGS: Final = 6
STEP_S: Final = 0.3
SHARES: Final = (1, 5, 20, 50, 100)
REPEATS: Final = 0.2
"""So often people ask again for what they have been told is done."""

GATED: Final = 20
"""The step with this share is left only with an approval."""

FAILPOINTS: Final = ("release.due", "release.carried_on", "release.committed")
PEOPLES_FAILPOINTS: Final = ("commit.saved", "commit.audited")
ROUND: Final = (
    *("release.carried_on", "people die", "release.committed", "killed at random"),
    *("release.due", "catch-up", "commit.saved", "commit.audited", "asleep", "clocks set"),
)
"""What happens in turn; the first four are what the suite has time for."""

APPROVER: Final = Principal("token:approver", (Grant(Role.APPROVE),))
RULE: Final = {"id": "beta", "serve": "on", "share": {"percent": 0}}
SLEEP_S: Final = 1.0
LATER_S: Final = 3_600.0
"""So far ahead clocks are set; whoever finishes then has such a clock, for steps began by it."""

ENDED: Final = ("completed", "rolled-back")


@dataclass(slots=True)
class Journal:
    """What was asked for, and what people were told."""

    releases: dict[str, str] = field(default_factory=dict)
    """Id -> the flag that it moves."""

    to_roll_back: frozenset[str] = frozenset()
    acknowledged: Counter[str] = field(default_factory=Counter)
    """Request ids of commands that returned."""


def prove(effort: Effort) -> Results:
    """Hurt who moves releases again and again, on both kinds of database in turn, and look at what came of them."""
    with on_both(effort, template) as run:
        for what, place, where in cycles(run, ROUND):
            journal = draw_up(place, run.chance)
            _cycle(run, what, place, journal)
            verify(place, journal, run.results, where=where)
            run.results.note("releases", len(journal.releases))
    return run.results


def template(made: Databases) -> Place:
    """Flags with a rule that lets nobody in yet."""
    place = made.new("template")
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    put(engine, *(PutFlag(flag(f"f{number}", rules=[RULE])) for number in range(FLAGS)))
    engine.dispose()
    return place


def draw_up(place: Place, chance: random.Random) -> Journal:
    """Releases of a flag each, some of which will be rolled back."""
    engine = open_engine(place.url)
    journal = Journal()
    for number in range(FLAGS):
        steps = tuple(
            Step(
                (Patch("production", f"f{number}", "beta", share_parts=1_000 * share),),
                Gates(minimum_s=STEP_S, approvals=int(share == GATED)) if share != SHARES[-1] else Gates(),
                f"{share} %",
            )
            for share in SHARES
        )
        write = Write(EDITOR, Action.EDIT, datetime.now(UTC))
        went = Releases(Writer(engine)).create(write, project="shop", plan=Plan(f"Release {number}", steps))
        journal.releases[went.stored.id] = f"f{number}"
    engine.dispose()
    journal.to_roll_back = frozenset(chance.sample(sorted(journal.releases), 2))
    return journal


def _cycle(run: Run, what: str, place: Place, journal: Journal) -> None:
    def ended() -> bool:
        return count_of(place, f"SELECT count(*) FROM release WHERE state NOT IN {ENDED}") == 0

    later_s = 0.0
    if what == "killed at random":
        people = _people(run, place, journal)
        count = 2 if place.is_file else run.chance.choice((2, 4))
        kill_in_turn(
            run, place, count=count, until=ended, end_at=time.monotonic() + 6 * STEP_S + 2, failpoints=FAILPOINTS
        )
        _remember(run, journal, people, kill_after_s=0.0)
    elif what == "people die" or what in PEOPLES_FAILPOINTS:
        with closing(Worker(place)) as worker:
            worker.wait_ready()
            for _ in range(4):
                people = _people(run, place, journal, what if what in PEOPLES_FAILPOINTS else "")
                _remember(run, journal, people, kill_after_s=run.chance.uniform(0.05, 0.6))
                run.results.note("kills")
    elif what == "catch-up":
        people = _people(run, place, journal)
        with closing(Worker(place)) as worker:
            worker.wait_ready()
            wait_until(lambda: count_of(place, "SELECT count(*) FROM release WHERE state = 'created'") == 0)
        # More than one step of each comes due while nobody is there.
        time.sleep(3 * STEP_S)
        _remember(run, journal, people, kill_after_s=0.0)
        _die_at(run, place, "release.committed")
    elif what == "asleep":
        people = _people(run, place, journal)
        with closing(Worker(place)) as sleeper, closing(Worker(place)) as other:
            sleeper.wait_ready()
            other.wait_ready()
            for _ in range(3):
                time.sleep(run.chance.uniform(0.0, STEP_S))
                sleeper.process.send_signal(signal.SIGSTOP)
                time.sleep(SLEEP_S)
                sleeper.process.send_signal(signal.SIGCONT)
                run.results.note("sleeps")
        _remember(run, journal, people, kill_after_s=0.0)
    elif what == "clocks set":
        people = _people(run, place, journal)
        with closing(Worker(place)) as worker:
            worker.wait_ready()
            for beside_s in (LATER_S, -86_400.0, 0.0, LATER_S):
                worker.set_clock(beside_s)
                run.results.note("clocks set")
                time.sleep(run.chance.uniform(0.2, 0.6))
        _remember(run, journal, people, kill_after_s=0.0)
        later_s = LATER_S
    else:
        people = _people(run, place, journal)
        for _ in range(2):
            _die_at(run, place, what)
        _remember(run, journal, people, kill_after_s=0.0)
    people = _people(run, place, journal, beside_s=later_s)
    finish(place, ended, beside_s=later_s)
    _remember(run, journal, people, kill_after_s=None)


def _die_at(run: Run, place: Place, failpoint: str) -> None:
    with closing(Worker(place, failpoint=failpoint)) as worker:
        run.results.equal("the failpoint was reached", -signal.SIGKILL, worker.process.wait(60), where=failpoint)
        run.results.note("kills")


def _people(run: Run, place: Place, journal: Journal, failpoint: str = "", *, beside_s: float = 0.0) -> writers.Writer:
    ids, seed = sorted(journal.releases), run.chance.random()
    return writers.start(partial(_act, place.url, ids, journal.to_roll_back, seed, failpoint, beside_s))


def _remember(run: Run, journal: Journal, people: writers.Writer, *, kill_after_s: float | None) -> None:
    ended = writers.end(people, kill_after_s=kill_after_s, from_line="ready")
    run.results.check("people end or are killed", ended.killed or ended.status == 0, f"status {ended.status}")
    asked = [line["acknowledged"] for line in ended.said if "acknowledged" in line]
    journal.acknowledged.update(asked)
    forgotten = [line["forgotten"] for line in ended.said if "forgotten" in line]
    run.results.equal("what is asked again is known", [], forgotten, where=f"{len(asked)} acknowledged")
    run.results.note("commands acknowledged", len(asked))


def _act(
    url: str,
    ids: Sequence[str],
    to_roll_back: frozenset[str],
    seed: float,
    failpoint: str,
    beside_s: float,
    say: writers.Say,
) -> None:
    """Start releases, approve what waits for it, and roll some back; each command has a request id of its own."""
    engine, chance = open_engine(url), random.Random(seed)
    releases = Releases(Writer(engine))
    say({"ready": True})
    end_at = time.monotonic() + 60
    told: dict[str, Act] = {}
    asked: Counter[tuple[str, Act]] = Counter()
    while time.monotonic() < end_at:
        states: dict[str, Any] = {}
        with reading(engine) as connection:
            for id in ids:
                states[id] = read_release(connection, project="shop", id=id).release.progress
        if all(each.state.value in ENDED for each in states.values()):
            break
        for id in chance.sample(ids, len(ids)):
            again = told.get(id)
            # As people do who have not heard the answer: it must be known, and not be done again.
            repeats = again is not None and chance.random() < REPEATS
            wanted = again if repeats else _wanted(states[id].state, states[id].step, id in to_roll_back)
            if wanted is None:
                continue
            # An approval lapses when a clock is set back behind the time that its step asks for.
            times = asked[id, wanted] = asked[id, wanted] + (0 if repeats else 1)
            request = f"{id}-{wanted}-{beside_s:g}-{times}"
            if failpoint and chance.random() < 0.2:
                writers.arm(failpoint)
            by = APPROVER if wanted is Act.APPROVE else EDITOR
            now = datetime.now(UTC) + timedelta(seconds=beside_s)
            write = Write(by, Action.EDIT, now, request_id=request)
            try:
                releases.command(write, project="shop", id=id, act=wanted)
            except FlagstaffError as refused:
                say({"forgotten" if repeats else "refused": f"{request}: {refused}"})
                continue
            told[id] = wanted
            say({"acknowledged": request})
        time.sleep(0.05)
    engine.dispose()


def _wanted(state: State, step: int, goes_back: bool) -> Act | None:
    if state is State.CREATED:
        return Act.START
    if goes_back and state in (State.RUNNING, State.AWAITING_APPROVAL) and step >= 1:
        return Act.ROLL_BACK
    return Act.APPROVE if state is State.AWAITING_APPROVAL else None


def verify(place: Place, journal: Journal, results: Results, *, where: str) -> None:
    """Look at what came of each release."""
    with closing(Look(place)) as look:
        results.equal("the database finds nothing wrong", [], look.problems(), where=where)
        states = dict(look.execute("SELECT id, state FROM release").fetchall())
        logs: dict[str, list[dict[str, Any]]] = {id: [] for id in journal.releases}
        for id, number, event, revisions, request, at in look.execute(
            "SELECT release, number, event, revisions, request_id, at FROM release_event ORDER BY release, number"
        ).fetchall():
            kept = {"number": number, "event": json.loads(event or "{}"), "revisions": json.loads(revisions or "{}")}
            logs[id].append({**kept, "request": request, "at": instant_of(at)})
        served: dict[str, list[tuple[int, int]]] = {}
        for key, revision, document in look.execute(
            "SELECT key, revision, document FROM revision WHERE environment = 'production' AND kind = 'flag'"
            " ORDER BY revision"
        ).fetchall():
            (rule,) = json.loads(document)["rules"]
            served.setdefault(key, []).append((revision, round(_percent(rule))))
        audited = Counter(
            look.execute("SELECT subject_key, action FROM audit_entry WHERE subject_kind = 'release'").fetchall()
        )
        flags_audited = Counter(
            key
            for (key,) in look.execute(
                "SELECT subject_key FROM audit_entry WHERE subject_kind = 'flag' AND cause LIKE 'release:%'"
            ).fetchall()
        )
        announced: Counter[tuple[str, str]] = Counter()
        flags_announced: Counter[str] = Counter()
        for type_, payload in look.execute("SELECT type, payload FROM outbox").fetchall():
            told = json.loads(payload)
            if type_.startswith("release."):
                announced[told["key"], type_] += 1
            elif type_ == "flag.targeting_changed":
                flags_announced[told["key"]] += 1
    requested = Counter(each["request"] for log in logs.values() for each in log if each["request"])
    for request in journal.acknowledged:
        results.equal("what was acknowledged was done once", 1, requested[request], where=f"{where}, {request}")
    results.equal("nothing was done twice", [], [each for each, n in requested.items() if n > 1], where=where)
    results.equal("all is in audit trail and outbox alike", audited, announced, where=where)
    for id, key in journal.releases.items():
        here = f"{where}, {id}"
        _verify_one(results, logs[id], served.get(key, []), states.get(id, ""), audited, id, where=here)
        moves = len(served.get(key, [])) - 1
        results.equal("each move is in the audit trail once", moves, flags_audited[key], where=here)
        results.equal("each move was announced once", moves, flags_announced[key], where=here)
    _verify_replay(place, journal, results, where=where)


def _verify_one(
    results: Results,
    log: Sequence[Mapping[str, Any]],
    served: Sequence[tuple[int, int]],
    state: str,
    audited: Mapping[tuple[str, str], int],
    id: str,
    *,
    where: str,
) -> None:
    results.check("each release has ended", state in ENDED, f"{where}: {state}")
    numbers = [each["number"] for each in log]
    results.equal("the log has no gap", list(range(1, len(log) + 1)), numbers, where=where)
    moved = [each["revisions"]["production"] for each in log if each["revisions"]]
    results.equal("each move of the log is a revision", moved, [revision for revision, _ in served[1:]], where=where)
    shares = [share for _, share in served[1:]]
    rolled_back = state == "rolled-back"
    forward = shares[:-1] if rolled_back else shares
    # Steps that came due together while nobody was there are taken as one, up to the next gate.
    results.equal(
        "each step's change was made once, in order", sorted(set(forward) & set(SHARES)), forward, where=where
    )
    results.equal("a share shrinks by a roll-back only", [0] if rolled_back else [100], shares[-1:], where=where)
    results.equal(
        "a roll-back is told once", int(rolled_back), audited.get((id, "release.rolled_back"), 0), where=where
    )
    reached = [dict(served).get(each["revisions"].get("production", 0), 0) for each in log]
    at = {share: each["at"] for each, share in zip(log, reached, strict=True) if share}
    results.equal("no step was early", [], _early(at), where=where)
    approved = [index for index, each in enumerate(log) if each["event"].get("act") == "approve"]
    past = [index for index, share in enumerate(reached) if share > GATED]
    waited = not past or (GATED in at and bool(approved) and approved[0] <= past[0])
    results.check("no gated step was skipped", waited, where)


def _early(at: Mapping[int, datetime]) -> list[int]:
    """Shares that were reached before their time: steps that only wait keep to the time of the first one."""
    found = []
    for share, reached_at in at.items():
        base = GATED if share > GATED else SHARES[0]
        steps = SHARES.index(share) - SHARES.index(base)
        if base in at and (reached_at - at[base]).total_seconds() < steps * STEP_S:
            found.append(share)
    return found


def _percent(rule: Mapping[str, Any]) -> float:
    share = rule.get("share")
    if share is None:
        return 100.0
    return float(share["percent"] if isinstance(share, dict) else share)


def _verify_replay(place: Place, journal: Journal, results: Results, *, where: str) -> None:
    engine = open_engine(place.url)
    with reading(engine) as connection:
        for id in journal.releases:
            stored = read_release(connection, project="shop", id=id)
            events = read_events(connection, project="shop", id=id)
            results.check(
                "the log, decided again, gives the release as it is", agrees(stored, events), f"{where}, {id}"
            )
    engine.dispose()
