"""A shop with a rule to be released, the people who release it, and what they do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select

from server.core.access import Action, Principal
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.core.flags import FlagDefinition, Rule
from server.core.releases.plan import Gates, Patch, Plan, Step
from server.core.releases.progress import Act, Judged, State
from server.operations.freezes import permit_unless_frozen
from server.operations.releases.going import Went, definitions_of
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from server.store import tables
from server.store.engine import reading
from server.store.releases import StoredEvent, StoredRelease, find_next_at, read_events, read_release
from tests.announced import check_announced
from tests.operations.protected import EDITOR, ask
from tests.store.definitions import NOW, flag, new_shop, put

RULE: Final = {"id": "beta", "serve": "on", "share": {"percent": 0}}
HOUR: Final = timedelta(hours=1)
WAITS: Final = Gates(minimum_s=3600.0)


def share(percent: float, gates: Gates = WAITS, environment: str = "production", **fields: Any) -> Step:
    """A step that lets in so many."""
    patch = Patch(environment, "checkout", "beta", share_parts=round(percent * 1000), **fields)
    return Step((patch,), gates, f"{percent:g} %")


PLAN: Final = Plan("Checkout", (share(1), share(10), share(100, Gates())))


_OPTIONS: Final = ("request_id", "dry_run", "bypass_approval", "reason", "expected_version")


@dataclass
class Yard:
    """Where releases are made; guards say what a test wants."""

    engine: Engine
    gone: dict[str, Principal] = field(default_factory=dict)
    said: list[Judged] = field(default_factory=list)

    @property
    def releases(self) -> Releases:
        """As a server has it."""
        writer = Writer(self.engine, (permit_unless_frozen,), self.gone.get)
        return Releases(writer, lambda _connection, _project, _guards, _since: tuple(self.said))

    def create(self, plan: Plan = PLAN, by: Principal = EDITOR, **options: Any) -> str:
        """The id of a new release."""
        return self.releases.create(ask(by, **options), project="shop", plan=plan).stored.id

    def do(self, id: str, act: Act, by: Principal = EDITOR, after: timedelta = timedelta(), **fields: Any) -> Went:
        """Ask for something."""
        options = {name: fields.pop(name) for name in _OPTIONS if name in fields}
        write = Write(by, Action.EDIT, NOW + after, **options)
        return self.releases.command(write, project="shop", id=id, act=act, **fields)

    def started(self, plan: Plan = PLAN) -> str:
        """The id of a release that runs."""
        id = self.create(plan)
        self.do(id, Act.START)
        return id

    def pass_time(self, after: timedelta) -> None:
        """Look what is due."""
        self.releases.carry_on(NOW + after)

    def stored(self, id: str) -> StoredRelease:
        """How it is now."""
        with reading(self.engine) as connection:
            return read_release(connection, project="shop", id=id)

    def state(self, id: str) -> State:
        """Where it is now."""
        return self.stored(id).release.progress.state

    def events(self, id: str) -> list[StoredEvent]:
        """All that came to it."""
        with reading(self.engine) as connection:
            return read_events(connection, project="shop", id=id)

    def next_at(self) -> datetime | None:
        """When to look next."""
        with reading(self.engine) as connection:
            return find_next_at(connection)

    def flag(self, key: str = "checkout", environment: str = "production") -> FlagDefinition:
        """A flag as it is stored."""
        with reading(self.engine) as connection:
            return definitions_of(connection, "shop", [(environment, key)])[environment, key]

    def percent(self, environment: str = "production") -> float | None:
        """How many rule beta lets in."""
        rule = next(each for each in self.flag(environment=environment).config.rules if each.id == "beta")
        return None if rule.share is None else rule.share.parts / 1000

    def protect(self, environment: str = "production", **policy: Any) -> None:
        """Give an environment another policy."""
        put(self.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(**policy)), environment=environment)

    def told(self) -> list[str]:
        """The types of all events about releases, in order."""
        with reading(self.engine) as connection:
            query = select(tables.outbox.c.type).order_by(tables.outbox.c.sequence)
            return [each for each in connection.execute(query).scalars() if each.startswith("release.")]


def open_yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    engine = new_shop(tmp_path)
    for environment in ("production", "staging"):
        put(engine, PutFlag(flag(rules=[RULE])), environment=environment)
    yield Yard(engine)
    check_announced(engine)
    engine.dispose()


def rule_of(definition: FlagDefinition, id: str) -> Rule:
    """A rule of a flag."""
    return next(each for each in definition.config.rules if each.id == id)
