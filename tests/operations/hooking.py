"""Make hooks, deliveries to them, and callers, for tests."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Engine, insert, update

from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.announcing.catalogue import CATALOGUE
from server.operations.hooks.formats import checks
from server.operations.hooks.managing import Hooks, SecretWanted
from server.operations.writes import Write
from server.store.engine import writing
from tests.store.definitions import NOW
from tests.webhooks.subscribing import vault
from webhooks.addresses import read_allowed
from webhooks.states import Status
from webhooks.subscribed import Vault
from webhooks.subscriptions import Surroundings
from webhooks.tables import deliveries, to_ms
from webhooks.urls import UrlRules

URL: Final = "https://hooks.example.com/in/T0PS3CR3T"
HEADER: Final = "Bearer s3cr3t-of-the-receiver"
TOOL: Final = Principal("token:tool", (Grant(Role.SUBSCRIBE, "shop"),))
NARROW: Final = Principal("token:narrow", (Grant(Role.SUBSCRIBE, "shop", "staging"),))
READER: Final = Principal("token:reader", (Grant(Role.READ),))


def hooks_of(
    engine: Engine, *, vault_: Vault | None = None, allow: Sequence[str] = (), wake: Callable[[], None] = lambda: None
) -> Hooks:
    """The hooks of a database; their secrets are sealed with a key of the tests."""
    chosen = vault_ or vault()
    rules = UrlRules(read_allowed(allow), http=bool(allow))
    return Hooks(engine, lambda: Surroundings(rules, CATALOGUE, checks()), lambda: chosen, wake)


def write(principal: Principal = OPEN, **fields: Any) -> Write:
    """A wish to change hooks."""
    return Write(principal, Action.SUBSCRIBE, NOW, **fields)


def document(**fields: Any) -> dict[str, Any]:
    """A hook's, with these fields besides."""
    return {"target_url": URL, "event_types": ["flag.*"], "headers": {"Authorization": HEADER}, **fields}


def made(hooks: Hooks, *, by: Principal = OPEN, **fields: Any) -> str:
    """The id of a new hook."""
    return hooks.create("shop", document(**fields), SecretWanted(), write(by)).hook.endpoint.id


def deliver(engine: Engine, hook: str, *statuses: Status, type_: str = "flag.killed", prefix: str = "d") -> None:
    """Deliveries to a hook, of events 1, 2 and so on, an hour and more ago."""
    rows = [
        {
            "id": f"{prefix}{number:05}",
            "event_id": f"evt_{prefix}{number}",
            "endpoint_id": hook,
            "project": "shop",
            "sequence": number,
            "event_type": type_,
            "status": status,
            "due_at_ms": to_ms(NOW) if status in (Status.PENDING, Status.CLAIMED) else None,
            "created_at_ms": to_ms(NOW) + number,
            "finished_at_ms": None if status in (Status.PENDING, Status.CLAIMED) else to_ms(NOW) + number,
        }
        for number, status in enumerate(statuses, start=1)
    ]
    with writing(engine) as connection:
        connection.execute(insert(deliveries), rows)


def finish(engine: Engine, status: Status) -> None:
    """Let all deliveries be in a status, as if they had been sent."""
    with writing(engine) as connection:
        connection.execute(update(deliveries).values(status=status, due_at_ms=None, finished_at_ms=to_ms(NOW)))
