"""A shop with schedules, and a clock that tests set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from server.core.access import Principal
from server.core.changes import PutFlag
from server.core.edits import FlagEdit, SetEnabled
from server.core.schedules.machine import Progress, State
from server.core.schedules.recurrence import Recurrence, RuleKind
from server.core.schedules.timing import Timing
from server.operations.freezes import permit_unless_frozen
from server.operations.schedules.deciding import Deciding
from server.operations.schedules.executing import Executing
from server.operations.schedules.looking import Looking
from server.operations.schedules.making import Making
from server.operations.schedules.plans import Plan
from server.operations.schedules.steps import Went
from server.operations.writes import Writer
from server.store.audit import list_entries
from server.store.commit import Part
from server.store.engine import reading
from server.store.schedule_steps import StoredStep
from server.store.schedules import first_wake_at
from tests.announced import check_announced
from tests.operations.protected import EDITOR, READER, ask
from tests.store.definitions import NOW, database, flag, put, stored

HOUR: Final = timedelta(hours=1)
ON: Final = SetEnabled("checkout", True)
OFF: Final = SetEnabled("checkout", False)


@dataclass
class Shop:
    """A shop whose flag `checkout` is off, and what schedules it has."""

    engine: Engine
    gone: dict[str, Principal] = field(default_factory=dict)
    """Who is known to be allowed something else now."""

    @property
    def writer(self) -> Writer:
        """With a freeze policy, as a server has it."""
        return Writer(self.engine, (permit_unless_frozen,), self.gone.get)

    @property
    def making(self) -> Making:
        """What makes and changes them."""
        return Making(self.writer)

    @property
    def deciding(self) -> Deciding:
        """What else people do."""
        return Deciding(self.writer)

    @property
    def looking(self) -> Looking:
        """What there is to see."""
        return Looking(self.writer)

    def create(self, *edits: FlagEdit, at: datetime = NOW + HOUR, by: Principal = EDITOR, **options: Any) -> Went:
        """Schedule edits in production."""
        given = {"timing": Timing(at=at), "parts": [Part("production", edits or (ON,))], **options}
        names = ("request_id", "dry_run", "reason", "now")
        asked = ask(by, **{name: given.pop(name) for name in names if name in given})
        return self.making.create(asked, project="shop", plan=Plan(**given))

    def new(self, *edits: FlagEdit, **options: Any) -> str:
        """The id of a schedule."""
        return self.create(*edits, **options).schedule.id

    def tick(self, now: datetime) -> int:
        """Do all that is due."""
        return Executing(self.writer).carry_on(now)

    def progress(self, id: str) -> Progress:
        """How far it has come."""
        return self.looking.read(READER, project="shop", id=id, now=NOW).schedule.progress

    def state(self, id: str) -> State:
        """Where it is."""
        return self.progress(id).state

    def outcomes(self, id: str) -> list[StoredStep]:
        """What became of its instants, the first first."""
        found = self.looking.executions(READER, project="shop", id=id, before=None, limit=1_000)
        return list(reversed(found))

    def enabled(self, key: str = "checkout", environment: str = "production") -> bool:
        """Whether a flag is on."""
        document = stored(self.engine, environment).flags[key]
        assert document is not None
        return document.get("enabled", True) is not False

    def wakes_at(self) -> datetime | None:
        """When somebody has to look next."""
        with reading(self.engine) as connection:
            return first_wake_at(connection)

    def entries(self, kind: str = "schedule") -> Any:
        """The audit trail about a kind of thing, the newest first."""
        with reading(self.engine) as connection:
            return [each for each in list_entries(connection, project="shop") if each.subject_kind == kind]


@contextmanager
def open_scheduled(tmp_path: Path, kind: str = "sqlite") -> Iterator[Shop]:
    """A shop with a flag that is off."""
    with database(tmp_path, kind, shop=True) as engine:
        put(engine, PutFlag(flag(enabled=False)))
        yield Shop(engine)
        check_announced(engine)


def every_hour(**options: Any) -> Recurrence:
    """A recurrence on the hour, from NOW on."""
    return Recurrence(RuleKind.CRON, "0 * * * *", "UTC", NOW, **options)
