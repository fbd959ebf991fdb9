"""Every method that manages, behind access and with its service: who may reach it, and where."""

import importlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from server.core.access import Action, Asking, Grant, Role
from server.core.errors import Code, FlagstaffError
from server.core.methods import ACTIONS
from server.operations.writes import Writer
from server.rpc.access import guarded
from server.rpc.call import Abort
from server.rpc.hooks import hooks_table
from server.rpc.managed import management_table
from server.rpc.management import Management
from server.rpc.status import Status
from server.rpc.table import Kind, Table, merge
from tests.house.sources import ROOT
from tests.operations.hooking import hooks_of
from tests.rpc.access import House, ask, by, new_house
from tests.rpc.test_access import MAY

UNMANAGED: Final = (Action.PUBLIC, Action.EVALUATE, Action.SYNC)
MANAGED: Final = sorted(path for path, action in ACTIONS.items() if action not in UNMANAGED and "flagstaff.v1" in path)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with project shop."""
    yield from new_house(tmp_path, with_shop=True)


@pytest.fixture
async def table(house: House) -> AsyncIterator[Table]:
    """All that is managed, behind access."""
    engine = house.tokens.engine
    with ThreadPoolExecutor(2) as threads:
        management = Management(lambda: datetime.now(UTC), threads)
        managed = management_table(management, engine, Writer(engine), tokens=house.tokens)
        hooked = hooks_table(management, hooks_of(engine))
        yield guarded(merge(managed, hooked), house.gate(Asking.EVERYONE))


def requests() -> dict[str, Any]:
    """Path -> the type of its request."""
    found = {}
    for file in sorted((ROOT / "protos/flagstaff/v1").glob("*.proto")):
        module = importlib.import_module(f"protos.flagstaff.v1.{file.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[f"/{service.full_name}/{method.name}"] = getattr(module, method.input_type.name)
    return found


def about(path: str, project: str, environment: str) -> bytes:
    """A request that names a place and nothing else."""
    kind = requests()[path]
    given = {"project": project, "environment": environment}
    known = kind.DESCRIPTOR.fields_by_name
    raw: bytes = kind(**{name: value for name, value in given.items() if name in known}).SerializeToString()
    return raw


async def outcome(table: Table, path: str, text: str, *place: str) -> str:
    """The status that a call with a token comes to; "OK" when it goes well."""
    handler, call, raw = table[path], by(text), about(path, *place)
    try:
        if handler.kind is Kind.SERVER_STREAM:
            # One that is let in goes on for ever; what it begins with tells enough.
            async with aclosing(handler.function(raw, call)) as replies:
                await anext(replies)
        else:
            await ask(handler, call, raw)
    except Abort as abort:
        return Status(abort.code).name
    except FlagstaffError as error:
        return error.code.value
    return "OK"


@pytest.mark.parametrize("path", MANAGED)
async def test_who_has_no_role_for_it_is_refused(house: House, table: Table, path: str) -> None:
    """Whatever else they may do, and whatever the request says."""
    action = ACTIONS[path]
    wrong = []
    for role in Role:
        found = await outcome(table, path, house.token(Grant(role)).text, "shop", "staging")
        if (found == Code.PERMISSION_DENIED) is (role in MAY[action]):
            wrong.append((role, found))

    assert [] == wrong


@pytest.mark.parametrize("path", MANAGED)
async def test_a_role_elsewhere_does_not_help(house: House, table: Table, path: str) -> None:
    """In another project, in another environment, or for one environment where the whole project is meant."""
    action = ACTIONS[path]
    if action is Action.IDENTIFY:
        found = await outcome(table, path, house.token(Grant(Role.OPERATE, "bank")).text, "", "")
        # An action that nobody named is none.
        assert ("INVALID_ARGUMENT" if path.endswith("/RunAction") else "OK") == found
        return
    (role, *_) = sorted(MAY[action])
    fields = requests()[path].DESCRIPTOR.fields_by_name
    for grant in (Grant(role, "bank"), Grant(role, "bank", "staging"), Grant(role, "shop", "production")):
        if "environment" not in fields and grant.project == "shop" and grant.environment:
            continue
        found = await outcome(table, path, house.token(grant).text, "shop", "staging")
        assert (grant, Code.PERMISSION_DENIED) == (grant, found)


@pytest.mark.parametrize("path", MANAGED)
async def test_without_a_good_token(house: House, table: Table, path: str) -> None:
    """Nobody gets to the service."""
    bad = [house.revoked(Grant(Role.ADMIN)).text, house.expired(Grant(Role.ADMIN)).text, "", "x"]

    assert ["UNAUTHENTICATED"] * 4 == [await outcome(table, path, text, "shop", "staging") for text in bad]
