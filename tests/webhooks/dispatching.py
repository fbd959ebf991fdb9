"""Run a dispatcher for a test, over a database with events, endpoints and deliveries."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from sqlalchemy import Engine, Table, select

from server.operations.deliveries.fanning import Fanning
from server.operations.deliveries.sending import Depot
from server.store.announce import Announcement, announce
from server.store.engine import database_now, reading, writing
from server.store.outbox import last_event, next_events
from webhooks.addresses import read_allowed
from webhooks.client import Client, open_client
from webhooks.dispatcher import Dispatcher, Surroundings
from webhooks.filters import Filter
from webhooks.messages import plain_formats
from webhooks.notices import KeptNotices
from webhooks.rotation import Secret
from webhooks.sealing import Sealer, derive_key
from webhooks.signing import new_secret
from webhooks.subscribed import Vault, add_endpoint
from webhooks.subscriptions import Subscription
from webhooks.tables import deliveries

SECRET: Final = new_secret(b"s" * 32)
CHANCE: Final = random.Random(20261125)
MASTER: Final = b"m" * 32
VAULT: Final = Vault(Sealer([derive_key(MASTER)]), CHANCE.randbytes)
PATIENCE_S: Final = 60.0


def subscribe(engine: Engine, url: str, id_: str = "ep_1", **fields: Any) -> None:
    """An endpoint of the shop that gets what happens from now on, as the service would keep it."""
    everything = Filter()
    with writing(engine) as connection:
        now = database_now(connection)
        last = connection.exec_driver_sql("SELECT event_sequence FROM project WHERE key = 'shop'").scalar_one()
        add_endpoint(
            connection,
            Subscription(url=url, filter=everything, **fields),
            Secret(1, SECRET, "", now),
            id=id_,
            project="shop",
            since_sequence=last,
            vault=VAULT,
            now=now,
        )


def happen(engine: Engine, count: int = 1, *, keys: Sequence[str] = ("checkout",)) -> None:
    """So many events of the shop, about these things in turn; they become deliveries."""
    announce_many(engine, count, keys=keys)
    Fanning(engine).look()


def announce_many(engine: Engine, count: int, *, keys: Sequence[str] = ("checkout",), text: str = "") -> list[str]:
    """So many events of the shop, in one commit; their ids."""
    told = [
        json.dumps({"kind": "metric", "key": keys[number % len(keys)], "name": text, "actor": "token:ada"})
        for number in range(count)
    ]
    with writing(engine, about="project/shop") as connection:
        before = last_event(connection, "shop")
        now = database_now(connection)
        announce(connection, "shop", announcements=[Announcement("", "metric.updated", each, now) for each in told])
        return [each.id for each in next_events(connection, "shop", before, limit=count)]


def surroundings(engine: Engine, client: Client, **fields: Any) -> Surroundings:
    """What a dispatcher of the tests works with."""
    given = {
        "store": Depot(engine),
        "vault": VAULT,
        "notices": KeptNotices(),
        "formats": plain_formats("https://flags.test"),
        "chance": CHANCE.random,
    }
    return Surroundings(client=client, **{**given, **fields})


@contextlib.asynccontextmanager
async def dispatching(engine: Engine, **fields: Any) -> AsyncIterator[Dispatcher]:
    """One that runs until the block ends, and is stopped as a server stops it."""
    async with open_client(read_allowed(["127.0.0.1"])) as client:
        dispatcher = Dispatcher(surroundings(engine, client, **fields))
        running = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
            await running


async def settled(engine: Engine, wanted: dict[str, int]) -> None:
    """Returns when so many deliveries have each status, and all others none."""
    async with asyncio.timeout(PATIENCE_S):
        while (found := counts(engine)) != wanted:
            await asyncio.sleep(0.02)
    assert wanted == found


def counts(engine: Engine) -> dict[str, int]:
    """How many deliveries have each status."""
    found: dict[str, int] = {}
    with reading(engine) as connection:
        for status in connection.execute(select(deliveries.c.status)).scalars():
            found[status] = found.get(status, 0) + 1
    return found


def columns(engine: Engine, table: Table, *names: str) -> list[tuple[Any, ...]]:
    """Some columns of all rows, in the order of the keys."""
    with reading(engine) as connection:
        chosen = select(*(table.c[name] for name in names)).order_by(*table.primary_key.columns)
        return [tuple(row) for row in connection.execute(chosen)]
