"""Change requests in the database: bounds, damage, and who was quicker."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import Engine, select

from server.core.access import Action
from server.core.change_requests.codec import Content, Proposed
from server.core.change_requests.machine import Happening, Step, advance, opened
from server.core.changes import PutFlag
from server.core.errors import NotFound, Stale, StoreCorrupt, TooLarge
from server.store import tables
from server.store.change_request_steps import read_steps
from server.store.change_requests import (
    Bounds,
    StoredRequest,
    Wanted,
    content_of,
    content_text,
    insert_request,
    list_requests,
    read_request,
    save_step,
)
from server.store.engine import reading, writing
from tests.store.definitions import NOW, behind_our_back, flag

SMALL: Final = Bounds(open_max=3, closed_max=2, steps_max=4)
"""Bounds that a test can reach."""

CONTENT: Final = Content((Proposed("production", (PutFlag(flag()),)),))


def _opened(engine: Engine, id: str, *, minute: int = 0) -> StoredRequest:
    now = NOW + timedelta(minutes=minute)
    step = Step(Happening.OPENED, "ann", now, "Sale")
    request = StoredRequest(
        project="shop",
        id=id,
        title="Sale",
        cause="",
        content=content_text(CONTENT),
        base={"production": {("flag", "checkout"): 2}},
        lines={"production": ["flag checkout: default off -> on"]},
        progress=opened(step, Action.EDIT),
        created_at=now,
        updated_at=now,
    )
    with writing(engine) as connection:
        insert_request(connection, request, step, bounds=SMALL)
    return request


def _go_on(engine: Engine, request: StoredRequest, happening: Happening) -> StoredRequest:
    step = Step(happening, "bob", NOW, "text")
    after = replace(request, progress=advance(request.progress, step))
    with writing(engine) as connection:
        save_step(connection, request, after, step, bounds=SMALL)
    return after


def test_it_is_read_back_as_it_was(shop: Engine) -> None:
    """With its content, the versions beneath it, and every step."""
    request = _go_on(shop, _opened(shop, "cr_1"), Happening.COMMENTED)
    with reading(shop) as connection:
        found = read_request(connection, project="shop", id="cr_1")
        steps = read_steps(connection, project="shop", id="cr_1")

    assert request == found
    assert CONTENT == content_of(found)
    assert [(1, Happening.OPENED, "ann"), (2, Happening.COMMENTED, "bob")] == [
        (each.number, each.happening, each.actor) for each in steps
    ]


def test_who_was_slower_is_refused(shop: Engine) -> None:
    """Two who read the same and go on: one does, and nothing of the other is kept."""
    request = _opened(shop, "cr_1")
    _go_on(shop, request, Happening.COMMENTED)
    with pytest.raises(Stale, match="went on meanwhile"):
        _go_on(shop, request, Happening.WITHDRAWN)
    with reading(shop) as connection:
        found = read_request(connection, project="shop", id="cr_1")
        assert 2 == len(read_steps(connection, project="shop", id="cr_1")) == found.progress.step_count


def test_what_is_not_there(shop: Engine) -> None:
    """Names what was looked for; a request of another project is not there either."""
    _opened(shop, "cr_1")
    for project, id in (("shop", "cr_2"), ("other", "cr_1")):
        with reading(shop) as connection, pytest.raises(NotFound, match=id):
            read_request(connection, project=project, id=id)


def test_a_damaged_row_says_so(shop: Engine) -> None:
    """It is not taken for something else."""
    _opened(shop, "cr_1")
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE change_request SET progress = '{}'")
    with reading(shop) as reader, pytest.raises(StoreCorrupt, match="'cr_1' is damaged"):
        read_request(reader, project="shop", id="cr_1")


def test_content_has_a_bound() -> None:
    """A change too large to be a request is refused with its figure."""
    variants = {f"v{number}": "x" * 60_000 for number in range(80)}
    huge = Content((Proposed("production", (PutFlag(flag(variants=variants, default="v1")),)),))
    with pytest.raises(TooLarge, match="at most 4194304"):
        content_text(huge)


def test_open_ones_have_a_bound(shop: Engine) -> None:
    """Closing one makes room."""
    requests = [_opened(shop, f"cr_{number}") for number in range(3)]
    with pytest.raises(TooLarge, match="apply or withdraw some"):
        _opened(shop, "cr_4")
    _go_on(shop, requests[0], Happening.WITHDRAWN)

    assert "cr_5" == _opened(shop, "cr_5").id


def test_the_oldest_closed_ones_are_forgotten(shop: Engine) -> None:
    """With all that belongs to them, when a new one is opened; the audit trail keeps what became of them."""
    for number in range(5):
        _go_on(shop, _opened(shop, f"cr_{number}", minute=number), Happening.WITHDRAWN)
    with reading(shop) as connection:
        kept, _ = list_requests(connection, project="shop", wanted=Wanted(), after=None, limit=10)
        rows = [
            connection.exec_driver_sql(f"SELECT DISTINCT change_request FROM change_request_{table}").scalars().all()
            for table in ("step", "subject")
        ]
        audited = connection.exec_driver_sql(
            "SELECT COUNT(DISTINCT subject_key) FROM audit_entry WHERE subject_kind = 'change-request'"
        ).scalar_one()

    assert ["cr_4", "cr_3", "cr_2"] == [each.id for each in kept]
    assert [{"cr_4", "cr_3", "cr_2"}] * 2 == [set(each) for each in rows]
    assert 5 == audited


def test_words_have_a_bound_and_deeds_have_none(shop: Engine) -> None:
    """However much was said, the request can still be withdrawn."""
    request = _opened(shop, "cr_1")
    for _ in range(3):
        request = _go_on(shop, request, Happening.COMMENTED)
    with pytest.raises(TooLarge, match="at most 4"):
        _go_on(shop, request, Happening.COMMENTED)

    assert 5 == _go_on(shop, request, Happening.WITHDRAWN).progress.step_count


def test_every_step_is_announced(shop: Engine) -> None:
    """In the order of the project's events, with what there is to know."""
    _go_on(shop, _opened(shop, "cr_1"), Happening.COMPLETED)
    with reading(shop) as connection:
        columns = tables.outbox.c
        query = select(columns.type, columns.payload).where(columns.type.startswith("change_request."))
        rows = connection.execute(query.order_by(columns.sequence)).all()

    assert ["change_request.opened", "change_request.completed"] == [row[0] for row in rows]
    assert ("cr_1", "approved", ["bob"]) == tuple(
        json.loads(rows[1][1])[name] for name in ("key", "state", "approvals")
    )
