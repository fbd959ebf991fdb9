"""Guards over a shop, at an instant that the test moves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, select

from server.core.access import Action, Grant, Principal, Role
from server.core.guards.guards import Guard
from server.core.guards.machine import Event, Happening
from server.core.guards.policies import Policy, Reach, ReachKind, Trigger, TriggerKind
from server.core.guards.verdicts import Summary
from server.core.metrics.batches import Batch, Series
from server.operations.freezes import permit_unless_frozen
from server.operations.guards.judging import Judging
from server.operations.guards.managing import Guards
from server.operations.metrics import Observing
from server.operations.writes import Write, Writer
from server.store import tables
from server.store.engine import reading
from server.store.guard_evaluations import Evaluation
from tests.store.definitions import NOW, flag

EDITOR: Final = Principal("token:editor", (Grant(Role.EDIT),))
OPERATOR: Final = Principal("token:operator", (Grant(Role.OPERATE),))
ERRORS: Final = Guard("errors", "production", metric="errors", flag="checkout", variant="on", high=0.05)
ON_ERRORS: Final = Trigger(TriggerKind.METRIC, "errors")
ON_ALERT: Final = Trigger(TriggerKind.SIGNAL, "alert")
POLICY: Final = Policy("safe", "production", (ON_ERRORS, ON_ALERT), Reach(ReachKind.FLAG, "checkout"))
RULED: Final = flag(
    rules=[{"id": "beta", "serve": "on", "share": {"percent": 10}}], metadata={"team": "shop"}, tags=["sale"]
)


@dataclass
class Fake:
    """A provider whose answers the test gives."""

    answers: list[Summary] = field(default_factory=list)

    def names(self) -> Sequence[str]:
        """One."""
        return ["prom"]

    def check(self, guard: Guard) -> None:
        """It takes every query."""

    def measure(self, guard: Guard, *, now: datetime) -> Summary:
        """What was given, in order."""
        return self.answers.pop(0)


@dataclass
class House:
    """Guards over a shop, at an instant that the test moves."""

    engine: Engine
    now: datetime = NOW
    who: dict[str, Principal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.provider = Fake()
        writer = Writer(self.engine, [permit_unless_frozen], self.who.get)
        self.guards = Guards(writer, self.provider)
        self.judging = Judging(self.engine, writer, lambda: self.now, self.provider)
        self.observing = Observing(self.engine, lambda: self.now, self.judging.observed)
        self.sequence = 0

    def write(self, by: Principal = EDITOR, **more: Any) -> Write:
        """Somebody asks."""
        return Write(by, Action.EDIT, self.now, **more)

    def make(self, guard: Guard = ERRORS, policy: Policy = POLICY) -> None:
        """A guard and a policy that waits for it."""
        self.guards.create_guard("shop", guard, self.write())
        self.guards.create_policy("shop", policy, self.write())

    def observe(self, errors: int, requests: int, variant: str = "on") -> None:
        """Requests of a variant, some of which failed; the guards that watch them are judged."""
        self.sequence += 1
        series = Series("errors", [float(errors)], [float(requests)], "checkout", variant)
        self.observing.take([Batch("shop", "production", "web-1", self.sequence, [series])])
        self.later(0.3)

    def later(self, seconds: float) -> None:
        """Time passes, and what is due is done."""
        self.now += timedelta(seconds=seconds)
        self.judging.carry_on(self.now)

    def signal(self, happening: Happening = Happening.SIGNALLED, name: str = "alert", by: Principal = EDITOR) -> Any:
        """Somebody outside says something."""
        event = Event(happening, self.now, name, text="burning")
        return self.guards.signal("shop", "production", event, self.write(by))

    def evaluations(self, **wanted: Any) -> list[Evaluation]:
        """What was kept, the oldest first."""
        asked = {"guard": "", "policy": "", "before": None, "limit": 1_000, **wanted}
        return self.guards.evaluations("shop", **asked)[::-1]

    def outcomes(self) -> list[str]:
        """What came of what was said, the oldest first."""
        return [each.outcome for each in self.evaluations()]

    def events(self) -> list[str]:
        """Types of what was announced about guards, and of what happened to flags, in order."""
        with reading(self.engine) as connection:
            columns = tables.outbox.c
            found = connection.execute(select(columns.type).order_by(columns.sequence)).scalars().all()
        return [each for each in found if each.startswith(("guard.", "flag.disabled", "flag.targeting_changed"))]


def enabled(house: House, key: str = "checkout") -> bool:
    """Whether a flag is on, as it is stored."""
    with reading(house.engine) as connection:
        columns = tables.flag_configs.c
        query = select(columns.enabled).where(columns.key == key, columns.environment == "production")
        return bool(connection.execute(query).scalar_one())
