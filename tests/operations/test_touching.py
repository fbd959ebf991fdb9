"""Whichever way somebody changes a flag, they are told what else moves it, or is about to."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from server.core.changes import PutFlag
from server.core.definitions.flags import write_flag
from server.core.edits import SetEnabled
from server.operations.flag_documents import Document, Manner, import_documents
from server.operations.flagsets import Place, Wanted, import_definitions, read_definitions
from server.store.commit import Part
from tests.operations.launch_plans.planned import begun, item, launch
from tests.operations.protected import APPROVER, EDITOR, House, ask
from tests.operations.releasing import Yard, open_yard
from tests.operations.schedules.scheduled import Shop
from tests.store.definitions import NOW


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


@pytest.fixture
def movers(yard: Yard) -> list[str]:
    """Ids of a release that runs, of a schedule and of a launch plan: all about one flag."""
    release = yard.started()
    off = SetEnabled("checkout", False)
    schedule = Shop(yard.engine).new(off, at=NOW + timedelta(hours=2))
    return [release, schedule, begun(yard.engine, launch(item("off", "T-0", off)))]


def described(yard: Yard, text: str) -> Any:
    """The flag with another description."""
    definition = yard.flag()
    return replace(definition, flag=replace(definition.flag, description=text))


def document(yard: Yard, text: str) -> bytes:
    """The same in a file."""
    return json.dumps({"flags": {"checkout": write_flag(described(yard, text))}}).encode()


def named(warnings: tuple[str, ...], movers: list[str]) -> list[bool]:
    """Which of them the warnings name."""
    return [any(id in each for each in warnings) for id in movers]


def test_every_way_tells_the_same(yard: Yard, movers: list[str]) -> None:
    """A write, a file into the server, a file into the database, and a change request that is applied."""
    house = House(yard.engine)
    told: dict[str, tuple[str, ...]] = {}
    told["write"] = house.write(Part("production", [PutFlag(described(yard, "by a write"))])).warnings
    documents = [Document("production", document(yard, "by apply"))]
    writer, write = house.writer, ask(EDITOR)
    told["apply"] = import_documents(
        yard.engine, writer, documents, write, project="shop", manner=Manner()
    ).written.warnings
    place = Place("shop", "production", "shop", "production")
    for dry_run in (True, False):
        definitions = read_definitions(document(yard, "by import"), name="flags.json", place=place)
        told[f"import {dry_run}"] = import_definitions(
            yard.engine, definitions, wanted=Wanted(), actor="ann", now=NOW, dry_run=dry_run
        ).waiting
    house.protect(approvals=1)
    id = house.asked(Part("production", [PutFlag(described(yard, "by a request"))]))
    house.approve(id, APPROVER)
    told["change request"] = house.apply(id).warnings

    assert {way: [True, True, True] for way in told} == {way: named(each, movers) for way, each in told.items()}
    assert 1 == len(set(told.values()))


def test_what_changes_nothing_warns_of_nothing(yard: Yard, movers: list[str]) -> None:
    """Everything asked for was so already."""
    place = Place("shop", "production", "shop", "production")
    definitions = read_definitions(document(yard, yard.flag().flag.description), name="flags.json", place=place)
    imported = import_definitions(yard.engine, definitions, wanted=Wanted(), actor="ann", now=NOW)

    assert (3, ()) == (len(movers), imported.waiting)
