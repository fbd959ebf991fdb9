"""A shop with flags, and launch plans for them."""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine

from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.change_requests.codec import Content, Proposed
from server.core.changes import Change, PutFlag
from server.core.edits import SetDefault, SetEnabled
from server.core.launch_plans.plan import Item, Plan
from server.operations.freezes import permit_unless_frozen
from server.operations.launch_plans.looking import PlanDetail
from server.operations.launch_plans.planning import LaunchPlans
from server.operations.launch_plans.running import Running
from server.operations.writes import Write, Writer
from server.store.audit import list_entries
from server.store.engine import reading
from tests.store.definitions import NOW, flag, put, stored

LAUNCH: Final = NOW + timedelta(days=10)
EDITOR: Final = Principal("token:ed", (Grant(Role.EDIT, "shop"),))
APPROVER: Final = Principal("token:bob", (Grant(Role.APPROVE, "shop"),))
OPERATOR: Final = Principal("token:olga", (Grant(Role.OPERATE, "shop"),))


def fill(engine: Engine) -> None:
    """Put two flags that are off into production, and one of them into staging."""
    put(engine, PutFlag(flag("new-ui")), PutFlag(flag("banner")))
    put(engine, PutFlag(flag("new-ui")), environment="staging")


def item(id: str, offset: str, *changes: Change, environment: str = "production", **more: Any) -> Item:
    """An item; without changes it turns `new-ui` to on."""
    made = changes or (SetDefault("new-ui", "on"),)
    return Item(id, offset, Content((Proposed(environment, made),)), Action.EDIT, **more)


def launch(*items: Item, **more: Any) -> Plan:
    """A plan around LAUNCH, in UTC."""
    return Plan("New UI", "UTC", LAUNCH, items, **more)


def usual(**more: Any) -> Plan:
    """Staging first, then production, then everything is off again."""
    return launch(
        item("try", "T-7d", environment="staging"),
        item("go", "T-0", title="Go live"),
        item("banner", "T-0", SetEnabled("banner", False)),
        item("end", "T+14d", SetEnabled("new-ui", False)),
        **more,
    )


def writer(engine: Engine, who_is: Any = lambda _actor: None) -> Writer:
    """As the application makes it."""
    return Writer(engine, (permit_unless_frozen,), who_is)


def write(principal: Principal = OPEN, now: datetime = NOW, **more: Any) -> Write:
    """A write by somebody."""
    return Write(principal, Action.EDIT, now, **more)


def plans(engine: Engine) -> LaunchPlans:
    """What people do."""
    return LaunchPlans(writer(engine))


def make(engine: Engine, plan: Plan, principal: Principal = EDITOR) -> str:
    """Keep a plan as a draft; its id."""
    return plans(engine).create(write(principal), project="shop", plan=plan).stored.id


def begun(engine: Engine, plan: Plan, principal: Principal = EDITOR) -> str:
    """Keep a plan and start it; its id."""
    id = make(engine, plan, principal)
    plans(engine).start(write(principal), project="shop", id=id)
    return id


def carry_on(engine: Engine, now: datetime) -> None:
    """Do what is due, and expect that nothing breaks."""
    assert [] == Running(writer(engine)).carry_on(now)


def look(engine: Engine, id: str, now: datetime = NOW) -> PlanDetail:
    """A plan as it is."""
    return plans(engine).read(OPEN, project="shop", id=id, now=now)


def happened(engine: Engine, id: str) -> list[str]:
    """What happened to a plan, in order."""
    return [each.happening.value for each in look(engine, id).steps]


def served(engine: Engine, key: str = "new-ui", environment: str = "production") -> tuple[bool, Any]:
    """Whether a flag is enabled, and its default."""
    document = stored(engine, environment).flags[key] or {}
    return document.get("enabled", True), document.get("default")


def told(engine: Engine) -> list[tuple[str, str, str]]:
    """(action, actor, cause) of the shop's audit trail from the first plan on, in order."""
    with reading(engine) as connection:
        entries = list_entries(connection, project="shop", limit=1_000)[::-1]
    found = [(each.action, each.actor, each.cause) for each in entries]
    first = next(index for index, each in enumerate(found) if each[0].startswith("plan."))
    return found[first:]
