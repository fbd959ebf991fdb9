"""FlagService over a real server and a real store, and requests for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.struct_pb2 import Value
from sqlalchemy import Engine

from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, PutSegment
from server.operations.freezes import permit_unless_frozen
from tests.rpc.managing import Manager, called, managing, refusal
from tests.store.definitions import flag, new_shop, put, segment

SERVICE: Final = "/flagstaff.v1.FlagService/"
BETA: Final = segment("beta", {"==": [{"var": "plan"}, "beta"]})


@dataclass
class Service:
    """The service, and the store behind it."""

    shop: Engine
    manager: Manager
    channel: Any

    async def __call__(self, method: str, request: Any, *, by: str = "") -> Any:
        """Call a method."""
        name = messages.DESCRIPTOR.services_by_name["FlagService"].methods_by_name[method].output_type.name
        return await called(self.channel, SERVICE + method, request, getattr(messages, name), by=by)

    async def refused(self, method: str, request: Any, *, by: str = "") -> tuple[str, str]:
        """Call a method that refuses: the status's name and message."""
        status, message = await refusal(self.channel, SERVICE + method, request, by=by)
        return status.name, message


@asynccontextmanager
async def flag_service(directory: Path, serve: Callable[..., Awaitable[Any]]) -> AsyncIterator[Service]:
    """A shop with a flag that has a rule, individual targets and a segment, in both environments."""
    shop = new_shop(directory)
    rule = {"id": "beta", "condition": {"$ref": "beta"}, "serve": "on", "share": {"percent": 20}}
    checkout = flag(rules=[rule], offVariant="off", targets={"on": ["ann"]}, owner="web", tags=["a", "b"])
    for environment in ("production", "staging"):
        put(shop, PutSegment(BETA), PutFlag(checkout), environment=environment)
    with managing(shop, policies=(permit_unless_frozen,)) as (manager, table):
        manager.people["operator"] = Principal("token:operator", (Grant(Role.OPERATE),))
        manager.people["stager"] = Principal("token:stager", (Grant(Role.EDIT, "shop", "staging"),))
        running = await serve(table=table)
        yield Service(shop, manager, running.channel)
    shop.dispose()


def variants(**values: Any) -> list[messages.Variant]:
    """Variants of booleans, texts, numbers."""
    members = {bool: "bool_value", str: "string_value", int: "int_value", float: "double_value"}
    return [
        messages.Variant(key=key, value=messages.VariantValue(**{members[type(value)]: value}))
        for key, value in values.items()
    ]


def here(request: Any, **fields: Any) -> Any:
    """A request about flag `checkout` in production, with more fields."""
    return request(project="shop", environment="production", **{"key": "checkout", **fields})


def rule(name: str, **fields: Any) -> messages.Rule:
    """A rule that serves `on`."""
    return messages.Rule(id=name, **{"serve": messages.Serve(variant="on"), **fields})


def condition(value: Any) -> Value:
    """JsonLogic as a message."""
    message = Value()
    message.struct_value.update(value)
    return message


async def the_config(service: Service, environment: str = "production", key: str = "checkout") -> messages.FlagConfig:
    """A flag's configuration as it is told."""
    request = messages.GetFlagRequest(project="shop", environment=environment, key=key)
    config: messages.FlagConfig = (await service("GetFlag", request)).configs[0]
    return config
