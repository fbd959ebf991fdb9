"""Start processes that do timed work, hurt them, and look at what they leave, on both kinds of database."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.crash.databases import Databases, Look, Place, databases
from tests.crash.proofs import Effort, Results
from tests.postgres import NoServer

PATIENCE_S: Final = 60.0
ROOT: Final = Path(__file__).parents[2]


@dataclass(slots=True)
class Run:
    """One run of a proof."""

    effort: Effort
    chance: random.Random
    results: Results
    made: dict[str, Databases] = field(default_factory=dict)
    templates: dict[str, Place] = field(default_factory=dict)


class Worker:
    """A process that does timed work."""

    def __init__(self, place: Place, *, failpoint: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLAGSTAFF_FAILPOINT": failpoint}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.timed_worker", place.url],
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
        self._ask(f"clock {beside_s}")

    def observe(self, sequence: int, errors: int, requests: int) -> str:
        """Have it record a batch; what became of that, "" when it died over it."""
        return self._ask(f"observe {sequence} {errors} {requests}")

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

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self.process.stdout.readline().strip()


@contextmanager
def _quietly(stream: Any) -> Iterator[None]:
    yield
    try:
        stream.close()
    except BrokenPipeError:
        return


@contextmanager
def on_both(effort: Effort, template: Callable[[Databases], Place]) -> Iterator[Run]:
    """A run with a template on each kind of database that there is."""
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
            run.templates[kind] = template(run.made[kind])
        yield run


def cycles(run: Run, what: Sequence[str]) -> Iterator[tuple[str, Place, str]]:
    """What is to happen, to which new database, and how that is called: each on each kind of database in turn."""
    kinds = list(run.made)
    for cycle in range(run.effort.cycles):
        # A round begins with the other kind, so that each is hurt in every way.
        kind = kinds[(cycle + cycle // len(what)) % len(kinds)]
        now = what[cycle % len(what)]
        if cycle and cycle % (2 * len(what)) == 0 and "postgresql" in kinds:
            run.made["postgresql"].clear(keep=run.templates["postgresql"])
        yield now, run.made[kind].copy(run.templates[kind], f"cycle-{cycle}"), f"{kind}, cycle {cycle} ({now})"
        run.results.note("cycles")


def kill_in_turn(
    run: Run, place: Place, *, count: int, until: Callable[[], bool], end_at: float, failpoints: Sequence[str] = ()
) -> None:
    """Have so many at work, of which one after the other dies and comes again, until all is done or it is time."""
    workers = [Worker(place) for _ in range(count)]
    try:
        for worker in workers:
            worker.wait_ready()
        while time.monotonic() < end_at and not until():
            time.sleep(run.chance.uniform(0.05, 0.4))
            number = run.chance.randrange(count)
            workers[number].kill()
            workers[number].close()
            # The others are at work meanwhile: dead ones alone would prove nothing.
            workers[number] = Worker(place, failpoint=run.chance.choice(("", *failpoints))).wait_ready()
            run.results.note("kills")
        wait_until(until)
    finally:
        for worker in workers:
            worker.close()


def finish(place: Place, until: Callable[[], bool], *, beside_s: float = 0.0) -> None:
    """Let somebody sound do what is left."""
    with closing(Worker(place)) as worker:
        worker.wait_ready()
        if beside_s:
            worker.set_clock(beside_s)
        wait_until(until)


def wait_until(done: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether something became so in time."""
    end_at = time.monotonic() + patience_s
    while time.monotonic() < end_at:
        if done():
            return True
        time.sleep(0.05)
    return False


def count_of(place: Place, query: str) -> int:
    """What a query counts."""
    with closing(Look(place)) as look:
        found: int = look.execute(query).fetchone()[0]
        return found


def instant_of(value: Any) -> datetime:
    """As the databases give it: text or an instant, in UTC."""
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    found: datetime = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return found
