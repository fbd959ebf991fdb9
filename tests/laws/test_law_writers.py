"""Writers at the same time lose nothing of each other's, on both databases."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.changes import PutFlag
from server.core.errors import Stale
from server.rpc.table import Table
from server.store.audit import list_entries, verify_chain
from server.store.engine import reading
from server.store.flagsets import load_documents
from server.store.revisions import list_revisions, load_documents_at
from tests.fakes import FakeCall
from tests.rpc.managing import managing
from tests.store.definitions import KINDS, database, flag, put

WRITERS: Final = 4
EACH: Final = 12


@pytest.fixture(params=KINDS)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Table]]:
    """A shop with one flag in both environments, and the management services over it."""
    with database(tmp_path, request.param, shop=True) as engine:
        for environment in ("production", "staging"):
            put(engine, PutFlag(flag("checkout")), environment=environment)
        with managing(engine) as (_, table):
            yield engine, table


def _call(table: Table, method: str, request: Any) -> Any:
    raw = asyncio.run(table[f"/flagstaff.v1.FlagService/{method}"].function(request.SerializeToString(), FakeCall()))
    name = messages.DESCRIPTOR.services_by_name["FlagService"].methods_by_name[method].output_type.name
    return getattr(messages, name).FromString(raw)


def _together(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(WRITERS) as threads:
        for done in [threads.submit(work, number) for number in range(WRITERS)]:
            done.result()


def _check_past(engine: Any) -> None:
    """One order, without gaps, that leads to what is there."""
    with reading(engine) as connection:
        assert [] == verify_chain(connection, project="shop")
        entries = list_entries(connection, project="shop", limit=10**6)
        assert list(range(len(entries), 0, -1)) == [entry.sequence for entry in entries]
        for environment in ("production", "staging"):
            now = load_documents(connection, project="shop", environment=environment)
            revisions = [
                each.revision
                for each in list_revisions(connection, project="shop", environment=environment, key="checkout")
            ]
            then = load_documents_at(connection, project="shop", environment=environment, revision=now.revision)
            assert sorted(set(revisions)) == revisions
            assert now.flags == then.flags


def test_edits_of_one_flag_are_all_there(service: tuple[Any, Table]) -> None:
    """Each writer adds its own targets and rules to one flag, without looking what others do."""
    engine, table = service
    here: dict[str, Any] = {"project": "shop", "environment": "production", "key": "checkout"}

    def work(writer: int) -> None:
        for number in range(EACH):
            name = f"w{writer}-{number}"
            if number % 2:
                target = messages.Target(variant="on", keys=[name])
                _call(table, "SetTargets", messages.SetTargetsRequest(**here, add=[target]))
            else:
                rule = messages.Rule(id=name, serve=messages.Serve(variant="on"))
                _call(table, "AddRule", messages.AddRuleRequest(**here, rule=rule))

    _together(work)
    config = _call(table, "GetFlag", messages.GetFlagRequest(**here)).configs[0]
    names = {f"w{writer}-{number}" for writer in range(WRITERS) for number in range(EACH)}

    assert names == {rule.id for rule in config.rules} | {key for target in config.targets for key in target.keys}
    _check_past(engine)


def test_who_read_an_older_version_is_refused(service: tuple[Any, Table]) -> None:
    """Each writer counts one up in the flag's description; the sum is what was acknowledged, no more and no less."""
    engine, table = service
    acknowledged: Counter[int] = Counter()
    refused: Counter[int] = Counter()

    def work(writer: int) -> None:
        chance = random.Random(writer)
        while acknowledged[writer] < EACH:
            read = _call(table, "GetFlag", messages.GetFlagRequest(project="shop", key="checkout")).flag
            request = messages.UpdateFlagRequest(project="shop", update_mask=FieldMask(paths=["description"]))
            request.flag.key = "checkout"
            request.flag.description = str(int(read.description or 0) + 1)
            request.options.expected_version = read.version
            request.options.request_id = f"{writer}-{chance.random()}"
            try:
                _call(table, "UpdateFlag", request)
                acknowledged[writer] += 1
            except Stale:
                refused[writer] += 1

    _together(work)
    counted = _call(table, "GetFlag", messages.GetFlagRequest(project="shop", key="checkout")).flag.description

    assert str(WRITERS * EACH) == counted
    _check_past(engine)
    with reading(engine) as connection:
        descriptions = [
            int((each.document or {})["description"])
            for each in list_revisions(connection, project="shop", environment="staging", key="checkout")
            if "description" in (each.document or {})
        ]
    assert list(range(1, WRITERS * EACH + 1)) == descriptions


def test_a_request_that_is_sent_twice_at_once_is_done_once(service: tuple[Any, Table]) -> None:
    """All who send it get the same answer."""
    engine, table = service
    request = messages.DisableFlagsRequest(project="shop", environment="production", keys=["checkout"])
    request.options.request_id = "once"
    answers: list[dict[str, int]] = []

    def work(_writer: int) -> None:
        answers.append(dict(_call(table, "DisableFlags", request).result.revisions))

    _together(work)

    assert [answers[0]] * WRITERS == answers
    with reading(engine) as connection:
        entries = list_entries(connection, project="shop", request_id="once")
    assert 1 == len(entries)
    _check_past(engine)
