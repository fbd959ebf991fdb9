"""Turns: a few work at a time, in the order in which they asked, and nobody waits for one who is slow."""

import asyncio
from dataclasses import dataclass, field

from server.live.turns import Turns

NEVER_S = 3_600.0
"""Nobody is slow."""


@dataclass(eq=False)
class Worker:
    """Notes in a list that it began; it may have nothing to do."""

    name: str
    began: list[str] = field(default_factory=list)
    has_work: bool = True

    def begin(self) -> bool:
        """Begin, when there is something to do."""
        self.began.append(self.name)
        return self.has_work


def workers(names: str, began: list[str], *, idle: str = "") -> list[Worker]:
    """One worker a letter, who all note in one list; those of `idle` have nothing to do."""
    return [Worker(name, began, name not in idle) for name in names]


async def test_so_many_begin_and_the_others_wait() -> None:
    """In the order in which they asked; each who is done makes room for one."""
    turns, began = Turns(at_once=2, slow_s=NEVER_S), list[str]()
    a, b, *_ = everybody = workers("abcd", began)
    for each in everybody:
        turns.ask(each)
    assert ["a", "b"] == began
    turns.done(b)
    assert ["a", "b", "c"] == began
    turns.done(a)

    assert ["a", "b", "c", "d"] == began


async def test_done_twice_makes_room_for_one() -> None:
    """And so it is with one who never had a turn: a subscriber says at each look into its mailbox that it is done."""
    turns, began = Turns(at_once=1, slow_s=NEVER_S), list[str]()
    a, b, c = workers("abc", began)
    for each in (a, b, c):
        turns.ask(each)
    turns.done(c)
    turns.done(a)
    turns.done(a)

    assert ["a", "b"] == began


async def test_who_has_nothing_to_do_takes_no_turn() -> None:
    """A subscriber that ended or is at work already is passed by."""
    turns, began = Turns(at_once=1, slow_s=NEVER_S), list[str]()
    for each in workers("abcd", began, idle="ab"):
        turns.ask(each)

    assert ["a", "b", "c"] == began


async def test_it_may_ask_while_it_works() -> None:
    """Its next turn comes after those of all who asked before."""
    turns, began = Turns(at_once=1, slow_s=NEVER_S), list[str]()
    a, b = workers("ab", began)
    for each in (a, b, a):
        turns.ask(each)
    turns.done(a)
    turns.done(b)

    assert ["a", "b", "a"] == began


async def test_nobody_waits_for_the_slow() -> None:
    """Those whose clients do not read never say that they are done."""
    turns, began = Turns(at_once=2, slow_s=0.0), list[str]()
    for each in workers("abcdefg", began):
        turns.ask(each)
    while len(began) < 7:
        await asyncio.sleep(0)

    assert list("abcdefg") == began


async def test_one_who_was_too_slow_gives_nothing_back() -> None:
    """Its place was given away: the one who has it keeps it."""
    now_s, began = 0.0, list[str]()
    turns = Turns(at_once=1, slow_s=60.0, clock=lambda: now_s)
    a, b, c = workers("abc", began)
    turns.ask(a)
    now_s += 60.0
    turns.ask(b)
    turns.ask(c)
    turns.done(a)
    assert ["a", "b"] == began
    turns.done(b)

    assert ["a", "b", "c"] == began


async def test_room_is_used_at_once() -> None:
    """Also when others had to wait a moment ago: no one waits for the next look while there is room."""
    turns, began = Turns(at_once=1, slow_s=NEVER_S), list[str]()
    a, b, c = workers("abc", began)
    turns.ask(a)
    turns.ask(b)
    turns.done(a)
    turns.done(b)
    turns.ask(c)

    assert ["a", "b", "c"] == began
