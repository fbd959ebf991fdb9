"""A shop with rules, whose actions the test answers."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, insert, update

from server.core.access import Action, Grant, Principal, Role
from server.core.actions.values import Asked, Done, Status
from server.core.changes import PutFlag
from server.core.rules.rules import Act, Definition, Then, Wanted
from server.operations.rules.managing import Rules
from server.operations.rules.running import RunningRules
from server.operations.writes import Write, Writer
from server.store.engine import reading, writing
from server.store.rule_runs import StoredRun
from server.store.rule_tables import rule_runs
from tests.announced import announced
from tests.store.definitions import NOW, flag, put
from webhooks.tables import endpoints

EDITOR: Final = Principal("token:editor", (Grant(Role.EDIT),))
ON: Final = Wanted(("flag.targeting_changed",))
KILL: Final = Act("kill_flag", {"flag_key": "{{ data.flag_key }}"}, "{{ type }} by {{ actor.id }}")
Answer = Callable[[Asked, Principal], Done]


def applied(asked: Asked, _principal: Principal) -> Done:
    """An action that was done."""
    return Done("act_1", asked.name, Status.APPLIED, changes=("it is off",))


@dataclass
class House:
    """Rules over a shop."""

    engine: Engine
    answer: Answer = applied
    done: list[tuple[Asked, Principal]] = field(default_factory=list)
    who: dict[str, Principal] = field(default_factory=dict)
    flips: Counter[str] = field(default_factory=Counter)

    @property
    def rules(self) -> Rules:
        """What people do with them."""
        return Rules(Writer(self.engine))

    def running(self, engine: Engine | None = None) -> RunningRules:
        """A process that has them answer events."""
        return RunningRules(engine or self.engine, self.do, self.who.get)

    def do(self, asked: Asked, principal: Principal) -> "Future[Done]":
        """Have an action done, as the test says."""
        self.done.append((asked, principal))
        future: Future[Done] = Future()
        try:
            future.set_result(self.answer(asked, principal))
        except Exception as error:
            future.set_exception(error)
        return future

    def write(self, by: Principal = EDITOR, **more: Any) -> Write:
        """How somebody asks."""
        return Write(by, Action.EDIT, NOW, **more)

    def create(self, then: Then = KILL, when: Wanted = ON, by: Principal = EDITOR, **more: Any) -> str:
        """Make a rule; its id."""
        definition = Definition(more.pop("name", "one"), when, then, **more)
        return self.rules.create("shop", definition, self.write(by)).rule.id

    def flip(self, key: str = "checkout", **more: Any) -> None:
        """Change what a flag serves."""
        self.flips[key] += 1
        put(self.engine, PutFlag(flag(key, default="on" if self.flips[key] % 2 else "off", **more)))

    def carry_on(self) -> None:
        """Look, and do what is due."""
        self.running().carry_on(NOW)

    def runs(self, id: str) -> list[StoredRun]:
        """What a rule has done, the oldest first."""
        return self.rules.runs("shop", id)[::-1]

    def results(self, id: str) -> list[tuple[str, Any]]:
        """(state, result) of each run."""
        return [(each.state.value, _read(each.result)) for each in self.runs(id)]

    def told(self, beginning: str = "rule.") -> list[tuple[str, dict[str, Any]]]:
        """What others are told of rules."""
        return [each for each in announced(self.engine) if each[0].startswith(beginning)]

    def make_due(self) -> None:
        """Let all waits be over."""
        with writing(self.engine) as connection:
            mine = rule_runs.c.due_at.is_not(None)
            connection.execute(update(rule_runs).where(mine).values(due_at=NOW - timedelta(days=400)))

    def add_endpoint(self, id: str = "ep_1", state: str = "enabled") -> None:
        """An endpoint of the shop."""
        with writing(self.engine) as connection:
            connection.execute(insert(endpoints), [_endpoint(id, state)])

    def next_at(self) -> datetime | None:
        """When there is something to do."""
        with reading(self.engine) as connection:
            return self.running().next_at(connection)


def _read(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found.get("status") if isinstance(found, Mapping) else found


def _endpoint(id: str, state: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in endpoints.c:
        kind = column.type.python_type
        row[column.name] = None if column.nullable else ("" if kind is str else kind(0))
    return {**row, "id": id, "project": "shop", "state": state, "filter": "{}", "concurrency": 1, "timeout_ms": 1_000}
