"""Measure what guards watch, judge it, and carry policies on: timed work, and at once when something was observed."""

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection, Engine

from server.core.errors import FlagstaffError, NotFound, StoreUnavailable
from server.core.guards.guards import Guard, Method
from server.core.guards.machine import Event, Happening, next_at
from server.core.guards.verdicts import Arm, Summary, judge
from server.core.limits import GUARD_GAP_S
from server.core.metrics.metrics import arm_of
from server.operations.guards.going_on import conclude, tell
from server.operations.guards.releasing import releases_on
from server.operations.guards.rolling_back import flags_reached
from server.operations.writes import Writer
from server.store import failpoints
from server.store.engine import reading
from server.store.guards import Judged, StoredGuard, claim, due_guards, first_guard_at, read_guard, waiting_guards
from server.store.metrics import Chosen, read_metric, read_sums
from server.store.rollback_policies import due_policies, first_policy_at, read_policy
from server.store.turns import take_turn

SET_BACK: Final = timedelta(seconds=1)
"""A clock that shows so much less than before was set; by less it is steered all the time."""

TOGETHER_MAX: Final = 50
"""Guards that are judged in one transaction."""

log = logging.getLogger("flagstaff.guards")


class Providers(Protocol):
    """Whoever can be asked what something comes to outside of this server. May be asked by several threads at once."""

    def names(self) -> Collection[str]:
        """Those that the server's settings name."""

    def check(self, guard: Guard) -> None:
        """Errors: InvalidRequest for a query that its provider cannot be asked."""

    def measure(self, guard: Guard, *, now: datetime) -> Summary:
        """What a guard's query comes to; what cannot be measured is told in the summary. Never raises."""


@dataclass(frozen=True, slots=True)
class NoProviders:
    """What is asked where the settings name none."""

    def names(self) -> Collection[str]:
        """None."""
        return ()

    def check(self, guard: Guard) -> None:
        """Nothing can be asked anyway."""

    def measure(self, guard: Guard, *, now: datetime) -> Summary:
        """Say so."""
        return Summary(Arm(), error=f"provider {guard.provider!r} is not in this server's settings, which have none")


def latest(connection: Connection, project: str, key: str) -> Judged | None:
    """What was said of a guard last; None before the first time, and when there is no such guard."""
    try:
        return read_guard(connection, project, key).last
    except NotFound:
        return None


def measure(connection: Connection, project: str, guard: Guard, *, since: datetime, now: datetime) -> Summary:
    """What our own observations come to in a guard's window, but none from before `since`."""
    try:
        kind = read_metric(connection, project, guard.metric).metric.kind
    except NotFound as error:
        return Summary(Arm(), error=str(error))
    begin = max(since, now - timedelta(seconds=guard.window_s))

    def arm(variant: str) -> Arm:
        chosen = Chosen(guard.environment, guard.metric, guard.flag or None, variant or None, since_s=_floor(begin))
        sums, newest_at = read_sums(connection, project, chosen)
        return replace(arm_of(kind, sums), newest_at=None if newest_at is None else min(newest_at, now))

    control = arm(guard.control_variant) if guard.method is not Method.THRESHOLD else None
    return Summary(arm(guard.variant), control)


@dataclass(slots=True)
class Judging:
    """Timed work: judges guards and lets time move policies. Units: clock gives aware instants."""

    engine: Engine
    writer: Writer
    clock: Callable[[], datetime]
    providers: Providers = field(default_factory=NoProviders)
    wake: Callable[[], None] = lambda: None
    """Has the clockwork look at once."""

    pool: Executor | None = None
    """Where providers are asked, so that one that is slow keeps nobody waiting; None asks at once."""

    name: str = "guards"
    _touched: set[tuple[str, str, str]] = field(default_factory=set)
    _touched_at: datetime | None = None
    """When what was touched is to be judged."""

    _judged_at: datetime | None = None
    _shown_at: datetime | None = None
    """What the clock showed last."""

    _reckons_anew: bool = False
    """Whether it has yet to look for guards that wait for too long."""

    _asking: set[tuple[str, str]] = field(default_factory=set)
    """Guards whose provider has not answered yet."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def observed(self, what: Collection[tuple[str, str, str]]) -> None:
        """Judge what watches these (project, environment, metric) at once, but not more often than GUARD_GAP_S."""
        now = self.clock()
        with self._lock:
            self._touched.update(what)
            if self._touched_at is None:
                last = self._judged_at
                rest = timedelta(0) if last is None else last + timedelta(seconds=GUARD_GAP_S) - now
                # A clock that was set back makes nobody wait.
                self._touched_at = now + min(max(rest, timedelta(0)), timedelta(seconds=GUARD_GAP_S))
        self.wake()

    def next_at(self, connection: Connection) -> datetime | None:
        """When the next guard is to be judged, or time moves a policy."""
        now = self.clock()
        at_once = now if self._notice(now) else None
        instants = (first_guard_at(connection), first_policy_at(connection), self._touched_at, at_once)
        return min((each for each in instants if each is not None), default=None)

    def carry_on(self, now: datetime) -> None:
        """Do all that is due. Errors: StoreUnavailable, StoreCorrupt."""
        anew = self._notice(now)
        with self._lock:
            touched: frozenset[tuple[str, str, str]] = frozenset()
            if self._touched_at is not None and self._touched_at <= now:
                touched = frozenset(self._touched)
                self._touched.clear()
                self._touched_at, self._judged_at = None, now
        anew, self._reckons_anew = self._notice(now), False
        try:
            self._do(now, touched, anew=anew)
        except StoreUnavailable:
            # What was observed has not been judged yet.
            with self._lock:
                self._reckons_anew |= anew
                self._touched |= touched
                self._touched_at = now if self._touched else None
            raise

    def _notice(self, now: datetime) -> bool:
        """Whether guards may wait for instants that are far from what the clock shows now."""
        with self._lock:
            # Another process may have set them by a clock that was set back before this one began.
            self._reckons_anew |= self._shown_at is None or now < self._shown_at - SET_BACK
            self._shown_at = now
            return self._reckons_anew

    def _do(self, now: datetime, touched: Collection[tuple[str, str, str]], *, anew: bool) -> None:
        with reading(self.engine) as connection:
            guards = due_guards(connection, now=now, touched=touched)
            if anew:
                guards += [each for each in waiting_guards(connection, now=now) if _is_too_far(each, now)]
            policies = due_policies(connection, now=now)
        for project, key in policies:
            self._one(partial(self._tick, project, key, now), key)
        self.judge_own([each for each in guards if each.guard.metric], now, touched)
        self._judge_provided([each for each in guards if each.guard.provider], now)

    def judge_own(
        self, guards: Sequence[StoredGuard], now: datetime, touched: Collection[tuple[str, str, str]]
    ) -> None:
        """Judge guards of our own metrics, as they were read; those that were touched, whoever took them meanwhile."""
        for project in dict.fromkeys(each.project for each in guards):
            mine = [each for each in guards if each.project == project]
            for start in range(0, len(mine), TOGETHER_MAX):
                some = mine[start : start + TOGETHER_MAX]
                self._one(partial(self._judge, some, now, touched), project)

    def _judge(
        self, guards: Sequence[StoredGuard], now: datetime, touched: Collection[tuple[str, str, str]] = ()
    ) -> None:
        def work(connection: Connection) -> None:
            claimed = self._claimed(connection, guards, now, touched)
            if claimed:
                failpoints.reach("guards.claimed")
            for each in claimed:
                summary = measure(connection, each.project, each.guard, since=each.since, now=now)
                conclude(connection, each, Judged(judge(summary, each.guard, now), now), self.writer)
                failpoints.reach("guards.judged")

        take_turn(self.engine, f"project/{guards[0].project}", work)
        failpoints.reach("guards.committed")

    def _judge_provided(self, guards: Sequence[StoredGuard], now: datetime) -> None:
        """Claim first, then ask outside of any transaction: a provider may take its time."""
        for each in guards:
            if (each.project, each.guard.key) in self._asking:
                # Its answer is still awaited; asking again would only make it slower.
                take_turn(self.engine, f"project/{each.project}", partial(self._claimed, guards=[each], now=now))
                continue
            for claimed in take_turn(
                self.engine, f"project/{each.project}", partial(self._claimed, guards=[each], now=now)
            ):
                self._asking.add((each.project, each.guard.key))
                if self.pool is None:
                    self._ask(claimed, now)
                else:
                    self.pool.submit(self._ask, claimed, now)

    def _ask(self, guard: StoredGuard, now: datetime) -> None:
        try:
            summary = self.providers.measure(guard.guard, now=now)
            later = max(now, self.clock())
            judged = Judged(judge(summary, guard.guard, later), later)
            self._one(partial(self._conclude, guard, judged), guard.guard.key)
        except StoreUnavailable as error:
            # It is asked again at its next time.
            log.warning("what a provider said could not be kept", extra={"of": guard.guard.key, "error": str(error)})
        except Exception:
            # The pool would say nothing of it.
            log.exception("a guard could not be judged", extra={"of": guard.guard.key})
        finally:
            self._asking.discard((guard.project, guard.guard.key))

    def _conclude(self, guard: StoredGuard, judged: Judged) -> None:
        def work(connection: Connection) -> None:
            current = read_guard(connection, guard.project, guard.guard.key)
            # What was asked of one that was changed meanwhile says nothing of what it is now.
            if current.version == guard.version:
                conclude(connection, current, judged, self.writer)

        take_turn(self.engine, f"project/{guard.project}", work)

    def _claimed(
        self,
        connection: Connection,
        guards: Sequence[StoredGuard],
        now: datetime,
        touched: Collection[tuple[str, str, str]] = (),
    ) -> list[StoredGuard]:
        """Those whose turn it is, and that nobody else has taken, as they are now."""
        found: list[StoredGuard] = []
        for each in guards:
            try:
                current = read_guard(connection, each.project, each.guard.key)
            except NotFound:
                continue
            # Who took it meanwhile may have summed up before what touched it was there.
            taken = current.next_at != each.next_at and _watched(each) not in touched
            if taken or current.version != each.version:
                continue
            begins_at = current.since + timedelta(seconds=current.guard.initial_delay_s)
            due = begins_at > now
            after = begins_at if due else now + timedelta(seconds=current.guard.interval_s)
            if claim(connection, current, after) and not due:
                found.append(current)
        return found

    def _tick(self, project: str, key: str, now: datetime) -> None:
        def work(connection: Connection) -> None:
            stored = read_policy(connection, project, key)
            due = next_at(stored.policy, stored.progress)
            if due is not None and due <= now:
                reached = flags_reached(connection, project, stored.policy.environment, stored.policy.reach)
                unfinished = bool(releases_on(connection, project, stored.policy.environment, reached))
                tell(connection, stored, Event(Happening.TICKED, now, unfinished=unfinished), self.writer)

        take_turn(self.engine, f"project/{project}", work)

    def _one(self, work: Callable[[], object], about: str) -> None:
        try:
            work()
        except StoreUnavailable:
            raise
        except FlagstaffError as error:
            # The others go on all the same.
            log.warning("a guard could not be carried on", extra={"of": about, "error": str(error)})


def _is_too_far(stored: StoredGuard, now: datetime) -> bool:
    """Whether a guard waits for longer than it ever does: the clock was set back."""
    begins_at = stored.since + timedelta(seconds=stored.guard.initial_delay_s)
    latest = max(now + timedelta(seconds=stored.guard.interval_s), begins_at)
    return stored.next_at is not None and stored.next_at > latest + SET_BACK


def _watched(stored: StoredGuard) -> tuple[str, str, str]:
    return stored.project, stored.guard.environment, stored.guard.metric


def _floor(at: datetime) -> int:
    return int(at.timestamp())
