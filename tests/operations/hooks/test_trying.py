"""A ping goes through the queue to one hook alone, and its answer is told."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from server.core.errors import InvalidRequest, Refused
from server.operations.deliveries.fanning import Fanning
from server.operations.hooks.managing import Hooks
from server.operations.hooks.trying import Trials, said_of
from server.operations.writes import Outcome
from server.store.engine import reading, writing
from tests.announced import check_announced
from tests.operations.hooking import hooks_of, made, write
from tests.store.definitions import NOW
from tests.webhooks.made import Written
from webhooks.deliveries import Result, claim, record
from webhooks.looking import Attempt, Delivery
from webhooks.states import Lane, Status
from webhooks.states import Outcome as Tried


async def _beside(operation: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(operation)


def _answers(engine: Engine, id_: str, **result: Any) -> Callable[[], None]:
    """Delivers what is due, as soon as it is told to look."""

    def deliver() -> None:
        Fanning(engine).look()
        now = NOW + timedelta(days=9_000)
        with writing(engine) as connection:
            taken = claim(connection, rooms={id_: 9}, lane=Lane.FRESH, claim_id="c", lease_s=60, now=now)
            record(connection, [Result(each, **result) for each in taken], notices=Written(), now=now)

    return deliver


async def _tested(hooks: Hooks, id_: str, engine: Engine, **result: Any) -> Any:
    answering = replace(hooks, wake=_answers(engine, id_, **result))
    return await Trials(answering, _beside).test("shop", id_, write(), message="hi", wait_s=5)


async def test_an_answer(engine: Engine) -> None:
    """It came by the queue, to this hook alone, whatever its filter says."""
    hooks = hooks_of(engine)
    other, id_ = made(hooks, event_types=["*"]), made(hooks, event_types=["release.*"])
    tested = await _tested(hooks, id_, engine, status_code=204)

    assert (Outcome.APPLIED, Status.DELIVERED, "system.ping", id_) == (
        tested.outcome,
        tested.delivery.status,
        tested.delivery.event_type,
        tested.delivery.endpoint_id,
    )
    assert "https://hooks.example.com/*** answered 204" == tested.said
    assert other != tested.delivery.endpoint_id
    check_announced(engine)


async def test_a_refusal(engine: Engine) -> None:
    """Its reason is told; the retry goes on by the schedule."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    tested = await _tested(hooks, id_, engine, status_code=500, error="answered 500", retry_in_s=5)

    assert (Status.PENDING, "https://hooks.example.com/*** did not take it: answered 500") == (
        tested.delivery.status,
        tested.said,
    )


async def test_nobody_delivers(engine: Engine) -> None:
    """The answer does not wait for ever, and says where to look."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    tested = await Trials(hooks, _beside).test("shop", id_, write(), wait_s=0)

    assert (None, True) == (tested.delivery, "waits to be sent" in tested.said)
    assert tested.event_id.startswith("evt_")


async def test_what_is_not_tried(engine: Engine) -> None:
    """A hook that is not enabled; a wait or a message that is too long; and a dry run sends nothing."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    trials = Trials(hooks, _beside)
    would = await trials.test("shop", id_, write(dry_run=True))

    assert (Outcome.WOULD_APPLY, "") == (would.outcome, would.event_id)
    with pytest.raises(InvalidRequest, match="wait"):
        await trials.test("shop", id_, write(), wait_s=61)
    with pytest.raises(InvalidRequest, match="message"):
        await trials.test("shop", id_, write(), message="x" * 501)
    hooks.disable("shop", id_, write())
    with pytest.raises(Refused, match="hook enable"):
        await trials.test("shop", id_, write())


def test_what_is_said(engine: Engine) -> None:
    """Of a delivery that is under way, and of a hook that rests or was disabled meanwhile."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    endpoint = hooks.mine("shop", id_, write())
    with reading(engine):
        sending = Attempt(1, Tried.SENDING, None, "", NOW, None)
        delivery = Delivery("d", id_, "e", "system.ping", "shop", 1, Status.CLAIMED, 1, NOW, NOW, None, (sending,))

    assert "has not answered yet" in said_of(delivery, endpoint)
    assert "left alone" in said_of(delivery, replace(endpoint, breaker_state="open"))
    assert "was disabled" in said_of(replace(delivery, status=Status.MISSED, attempts=()), endpoint)
