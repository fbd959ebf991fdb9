"""Prove that each event reaches each endpoint that wants it, whatever becomes of who announces and who delivers.

Producers commit flags and note what was acknowledged; dispatchers deliver to a receiver that writes down what arrives,
durably, before it answers. Both are killed at every failpoint and at random instants, put to sleep beyond their leases,
and ended gracefully; afterwards an oracle holds the three against each other.
"""

import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from server.core.changes import PutFlag
from server.store.engine import database_now, open_engine, writing
from server.store.migrations import migrate
from server.store.projects import last_sequences
from tests.crash.databases import Databases, Look, Place
from tests.crash.delivered import Seen, Target, read_journal, read_ledger, verify
from tests.crash.processes import Process
from tests.crash.proofs import Effort, Results
from tests.crash.timed import PATIENCE_S, Run, count_of, cycles, on_both, wait_until
from tests.store.definitions import flag, open_shop, put
from tests.webhooks.subscribing import vault
from webhooks.addresses import read_allowed
from webhooks.limits import LEASE_MARGIN_S
from webhooks.rotation import SECRET_BYTES, make_secret
from webhooks.subscribed import add_endpoint
from webhooks.subscriptions import Surroundings, check_plain, read_subscription
from webhooks.urls import UrlRules

COMMITS: Final = 12
"""Of each producer."""

LEASE_S: Final = 60.0
"""The clock is set so far ahead where a lease must end: more than any lasts."""

TIMEOUT_S: Final = 5.0
FAILPOINTS: Final = (
    *("deliveries.fanned", "deliveries.made", "deliveries.claiming", "deliveries.claimed"),
    *("deliveries.answered", "deliveries.recording", "deliveries.recorded", "deliveries.told"),
)
PRODUCER_FAILPOINTS: Final = ("commit.audited", "commit.before_commit", "commit.after_commit")
ROUND: Final = (
    *("deliveries.answered", "killed at random", "deliveries.fanned", "undisturbed", "ended"),
    *("asleep", "deliveries.claimed", "enabled", "deliveries.recording", "producer killed"),
    *("deliveries.made", "deliveries.claiming", "deliveries.recorded", "deliveries.told"),
)
"""What happens in turn; the first five are what the suite has time for."""

QUICK: Final = (0.0, *([0.2] * 7))
KEEN: Final = (0.0, *([0.05] * 29))
"""Waits between attempts: of a receiver that refuses for good, and of those that take a message in the end. One that
is down as a whole would open its breaker, and cost minutes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An endpoint as every cycle has it."""

    path: str
    accepts: bool = True
    types: tuple[str, ...] = ()
    ordered: bool = False
    disabled: bool = False
    delays_s: tuple[float, ...] = KEEN


KINDS: Final = (
    Kind("/ok/plain"),
    Kind("/slow/0.05"),
    Kind("/odd/409", ordered=True),
    Kind("/ok/ordered", ordered=True),
    Kind("/dies", accepts=True),
    Kind("/ok/notices", types=("webhook.delivery_exhausted", "webhook.endpoint_disabled")),
    Kind("/status/400", accepts=False, delays_s=QUICK),
    Kind("/status/410", accepts=False),
)
MISSED: Final = Kind("/ok/missed", disabled=True)


@dataclass(slots=True)
class Scene:
    """One cycle: a database, a receiver, and who works on both."""

    place: Place
    folder: Path
    receiver: str
    targets: list[Target] = field(default_factory=list)

    @property
    def clock(self) -> Path:
        """How far the database's clock is ahead, for all dispatchers."""
        return self.folder / "clock"

    @property
    def journals(self) -> list[Path]:
        """What producers were told."""
        return sorted(self.folder.glob("journal-*"))

    def dispatcher(self, failpoint: str = "") -> Process:
        """One that delivers."""
        return Process("tests.crash.delivering_worker", self.place.url, str(self.clock), failpoint=failpoint)

    def producer(self, seed: int, *, count: int = COMMITS, failpoint: str = "") -> Process:
        """One that changes flags."""
        journal = self.folder / f"journal-{seed}"
        arguments = (self.place.url, str(journal), str(count), str(seed))
        return Process("tests.crash.announcing_worker", *arguments, failpoint=failpoint)

    def set_ahead(self, seconds: float) -> None:
        """Let so much time pass for everybody."""
        ahead = float(self.clock.read_text()) + seconds
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(str(ahead))
        # At once: who reads it meanwhile reads the one or the other.
        fresh.replace(self.clock)

    def is_done(self) -> bool:
        """Whether nothing is left to be delivered, or to be made a delivery of."""
        # In one statement: what is made a delivery between two of them would be seen by none.
        left = (
            "SELECT (SELECT count(*) FROM delivery WHERE due_at_ms IS NOT NULL) + (SELECT count(*) FROM notice)"
            " + (SELECT count(*) FROM project p LEFT JOIN fan_out f ON f.project = p.key"
            " WHERE p.key = 'shop' AND p.event_sequence > coalesce(f.sequence, 0))"
        )
        return count_of(self.place, left) == 0


def prove(effort: Effort) -> Results:
    """Hurt who announces and who delivers again and again, on both kinds of database in turn."""
    with on_both(effort, _template) as run:
        for what, place, where in cycles(run, ROUND):
            with _scene(run, place, MISSED if what == "enabled" else None) as scene:
                clean = _cycle(run, what, scene, where=where)
                _look(run, scene, where=where, clean=clean)
        if effort.storm_s:
            for kind, count in (("postgresql", 2), ("postgresql", 4), ("sqlite", 2)):
                if kind in run.made:
                    place = run.made[kind].copy(run.templates[kind], f"storm-{count}")
                    where = f"{kind}, {count} dispatchers for {effort.storm_s:g} s"
                    with _scene(run, place, None) as scene:
                        _storm(run, scene, count)
                        _look(run, scene, where=where, clean=False)
    return run.results


def _template(made: Databases) -> Place:
    place = made.new("template")
    engine = open_engine(place.url)
    migrate(engine)
    open_shop(engine)
    put(engine, *(PutFlag(flag(f"f{number}")) for number in range(5)))
    engine.dispose()
    return place


@contextmanager
def _scene(run: Run, place: Place, more: Kind | None) -> Iterator[Scene]:
    folder = Path(run.effort.directory) / f"scene-{time.monotonic_ns()}"
    folder.mkdir()
    with ExitStack() as stack:
        receiver = Process("tests.webhooks.receiver", "--ledger", str(folder / "ledger"))
        stack.callback(receiver.close)
        scene = Scene(place, folder, receiver.line())
        scene.clock.write_text("0")
        _subscribe(scene, run.chance, [*KINDS, *([more] if more else [])])
        yield scene


def _subscribe(scene: Scene, chance: random.Random, kinds: Sequence[Kind]) -> None:
    rules = UrlRules(read_allowed(["127.0.0.1"]), http=True)
    types = ("flag.*", *{type_ for kind in kinds for type_ in kind.types})
    surroundings = Surroundings(rules, types, {"standard": check_plain})
    engine = open_engine(scene.place.url)
    with writing(engine) as connection:
        last = last_sequences(connection)["shop"]
        for number, kind in enumerate(kinds):
            document: dict[str, Any] = {
                "target_url": scene.receiver + kind.path,
                "event_types": list(kind.types) or ["*"],
                "retry_schedule": list(kind.delays_s),
                "ordering": "per_key" if kind.ordered else "none",
                "timeout_s": TIMEOUT_S,
                "concurrency": 3,
            }
            now = database_now(connection)
            secret = make_secret(1, chance.randbytes(SECRET_BYTES), asymmetric=False, now=now)
            add_endpoint(
                connection,
                read_subscription(document, surroundings),
                secret,
                id=f"ep_{number}",
                project="shop",
                since_sequence=last,
                vault=vault(),
                now=now,
            )
            if kind.disabled:
                connection.exec_driver_sql(f"UPDATE endpoint SET state = 'disabled' WHERE id = 'ep_{number}'")
            scene.targets.append(
                Target(
                    f"ep_{number}", kind.path, secret.text, kind.types, kind.accepts, kind.ordered, kind.delays_s, last
                )
            )
    engine.dispose()


def _look(run: Run, scene: Scene, *, where: str, clean: bool) -> None:
    arrivals = read_ledger(scene.folder / "ledger")
    acknowledged = [revision for journal in scene.journals for revision in read_journal(journal)]
    seen = Seen(scene.targets, arrivals, acknowledged, clean)
    verify(scene.place, seen, run.results, where=where)
    run.results.note("events", len(seen.events))
    run.results.note("deliveries", len(seen.deliveries))
    run.results.note("arrivals", len(arrivals))


def _cycle(run: Run, what: str, scene: Scene, *, where: str) -> bool:
    """Whether nobody was hurt."""
    if what in FAILPOINTS:
        _failpoint(run, what, scene, where=where)
    elif what == "producer killed":
        _producer_killed(run, scene)
    elif what == "killed at random":
        _at_random(run, scene)
    elif what == "asleep":
        _asleep(run, scene)
    elif what == "enabled":
        _enabled(run, scene)
    elif what == "ended":
        _ended(run, scene, where=where)
    else:
        _produce(run, scene)
        _finish(scene)
    return what in ("undisturbed", "ended", "producer killed")


def _produce(run: Run, scene: Scene, *, producers: int = 2) -> None:
    made = [scene.producer(run.chance.randrange(10**9)) for _ in range(producers)]
    for each in made:
        each.process.wait(PATIENCE_S)
        each.close()


def _finish(scene: Scene, patience_s: float = PATIENCE_S) -> None:
    """Let somebody sound do what is left."""
    with closing(scene.dispatcher()) as dispatcher:
        dispatcher.line()
        assert wait_until(scene.is_done, patience_s), f"not done after {patience_s} s"
        dispatcher.end()


def _failpoint(run: Run, name: str, scene: Scene, *, where: str) -> None:
    with closing(scene.dispatcher(name)) as dispatcher:
        dispatcher.line()
        _produce(run, scene)
        status = dispatcher.process.wait(PATIENCE_S)
        run.results.equal("the failpoint was reached", -signal.SIGKILL, status, where=where)
        run.results.note("kills")
    scene.set_ahead(LEASE_S)
    _finish(scene)


def _producer_killed(run: Run, scene: Scene) -> None:
    for name in PRODUCER_FAILPOINTS:
        with closing(scene.producer(run.chance.randrange(10**9), failpoint=name)) as producer:
            producer.process.wait(PATIENCE_S)
            run.results.note("kills")
    _produce(run, scene, producers=1)
    _finish(scene)


def _at_random(run: Run, scene: Scene) -> None:
    _kill_in_turn(run, scene, 2 if scene.place.is_file else run.chance.choice((2, 4)), s=3.0)
    scene.set_ahead(LEASE_S)
    _finish(scene)


def _storm(run: Run, scene: Scene, count: int) -> None:
    _kill_in_turn(run, scene, count, s=run.effort.storm_s)
    scene.set_ahead(LEASE_S)
    # Who refuses for good is asked eight times, three at once, about each of some hundred events a second.
    _finish(scene, PATIENCE_S + 60 * run.effort.storm_s)


def _kill_in_turn(run: Run, scene: Scene, count: int, *, s: float) -> None:
    dispatchers = [scene.dispatcher() for _ in range(count)]
    producers = [scene.producer(run.chance.randrange(10**9), count=10**6) for _ in range(2)]
    end_at = time.monotonic() + s
    try:
        for each in dispatchers:
            each.line()
        while time.monotonic() < end_at:
            time.sleep(run.chance.uniform(0.2, 1.0))
            # What the dead one held is free again, and so is what the living hold: they are refused what they bring.
            scene.set_ahead(run.chance.choice((0.0, LEASE_S)))
            hurt = run.chance.choice((dispatchers, dispatchers, producers))
            number = run.chance.randrange(len(hurt))
            hurt[number].close()
            run.results.note("kills")
            if hurt is producers:
                hurt[number] = scene.producer(run.chance.randrange(10**9), count=10**6)
            else:
                hurt[number] = scene.dispatcher(run.chance.choice(("", "", *FAILPOINTS)))
                hurt[number].line()
    finally:
        for each in (*dispatchers, *producers):
            each.close()


def _asleep(run: Run, scene: Scene) -> None:
    """One sleeps beyond its leases while another does its work; what it brings when it wakes is refused.

    It really takes that long: who wakes knows by his own clock that he slept, and sends nothing more.
    """
    with closing(scene.dispatcher()) as sleeper:
        sleeper.line()
        with closing(scene.producer(run.chance.randrange(10**9))) as producer:
            wait_until(lambda: count_of(scene.place, "SELECT count(*) FROM attempt WHERE outcome = 'sending'") > 0)
            sleeper.process.send_signal(signal.SIGSTOP)
            run.results.note("sleeps")
            producer.process.wait(PATIENCE_S)
        time.sleep(TIMEOUT_S + LEASE_MARGIN_S)
        _finish(scene)
        sleeper.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        sleeper.end()


def _enabled(run: Run, scene: Scene) -> None:
    """An endpoint comes back and is to get all that it missed; who replays that for it dies over it."""
    _produce(run, scene)
    _finish(scene)
    with closing(scene.dispatcher()) as dispatcher:
        dispatcher.line()
        dispatcher.tell(f"enable {scene.targets[-1].id}")
        time.sleep(run.chance.uniform(0.0, 0.1))
        dispatcher.close()
        run.results.note("kills")
    scene.set_ahead(LEASE_S)
    with closing(scene.dispatcher()) as dispatcher:
        dispatcher.line()
        dispatcher.tell(f"enable {scene.targets[-1].id}")
        dispatcher.line()
        assert wait_until(scene.is_done)
        dispatcher.end()


def _ended(run: Run, scene: Scene, *, where: str) -> None:
    """One is asked to end while it sends: what is under way ends, and nothing is held or done again."""
    with closing(scene.dispatcher()) as dispatcher, closing(scene.producer(run.chance.randrange(10**9))) as producer:
        dispatcher.line()
        wait_until(lambda: count_of(scene.place, "SELECT count(*) FROM attempt") > run.chance.randrange(20))
        status = dispatcher.end()
        producer.process.wait(PATIENCE_S)
    run.results.equal("it ends by itself", 0, status, where=where)
    with closing(Look(scene.place)) as look:
        held = look.execute("SELECT count(*) FROM delivery WHERE status = 'claimed'").fetchone()[0]
    run.results.equal("who ended holds nothing", 0, held, where=where)
    run.results.note("graceful ends")
    _finish(scene)
