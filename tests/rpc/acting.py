"""An automation tool over a real server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from protos.flagstaff.v1 import actions_pb2 as messages
from protos.flagstaff.v1 import common_pb2 as common
from server.core.access import Grant, Principal, Role
from server.core.announcing.wanted import read_wanted
from server.core.changes import PutFlag, PutSegment
from server.core.segments import Segment
from server.operations.feed import tellable
from server.store.engine import reading
from server.store.outbox import newest_events
from tests.rpc.asking import ServiceClient
from tests.rpc.conftest import Serve
from tests.rpc.flag_service import BETA
from tests.rpc.managing import Manager, managing
from tests.store.definitions import flag, new_shop, put

STATUS: Final = messages.ActionStatus


class Tool:
    """An automation tool that has things done in shop's production."""

    def __init__(self, client: ServiceClient, manager: Manager) -> None:
        self.client, self.manager = client, manager

    async def run(self, name: str, /, *, by: str = "editor", where: str = "production", **given: Any) -> Any:
        """The reply to an action; `options` and so on as the request has them."""
        return await self.client.ask("RunAction", by=by, **asked(name, where, given))

    async def refused(self, name: str, /, *, by: str = "editor", where: str = "production", **given: Any) -> Any:
        """Status and message of one that is refused."""
        return await self.client.refused("RunAction", by=by, **asked(name, where, given))

    def events(self, *types: str) -> list[Any]:
        """The newest events, as others get them."""
        with reading(self.manager.engine) as connection:
            found, _ = newest_events(connection, "shop", read_wanted(types), environment="", before=None, limit=20)
        return [tellable(each) for each in found]


def asked(name: str, where: str, given: dict[str, Any]) -> dict[str, Any]:
    """A request's fields."""
    own = ("options", "causation_id", "hops")
    beside = {key: value for key, value in given.items() if key in own}
    options = common.WriteOptions(**beside.pop("options", {}))
    inputs = {key: value for key, value in given.items() if key not in own}
    return {"project": "shop", "environment": where, "name": name, "inputs": inputs, "options": options, **beside}


@asynccontextmanager
async def tool_of(directory: Path, serve: Serve) -> AsyncIterator[Tool]:
    """A shop with a flag that has a rule with a share, and a list of keys."""
    shop = new_shop(directory)
    rule = {"id": "beta", "condition": {"$ref": "beta"}, "serve": "on", "share": {"percent": 20}}
    staff = Segment("staff", keys=("ann",))
    for environment in ("production", "staging"):
        put(shop, PutSegment(BETA), PutSegment(staff), PutFlag(flag(rules=[rule])), environment=environment)
    with managing(shop) as (manager, table):
        manager.people["operator"] = Principal("token:operator", (Grant(Role.OPERATE),))
        yield Tool(ServiceClient(serve, table, messages), manager)
    shop.dispose()


def status_of(reply: Any) -> str:
    """Its status, as HTTP has it."""
    return STATUS.Name(reply.status).removeprefix("ACTION_STATUS_").lower()
