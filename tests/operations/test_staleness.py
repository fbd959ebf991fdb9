"""Flags are looked through by the clock; each turn is kept and told once, in one commit."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from server.core.access import Action, Grant, Principal, Role
from server.core.changes import DeleteEnvironment, PutFlag, RemoveFlag, UpdateEnvironment
from server.core.edits import ArchiveFlag, SetDefault
from server.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused, Stale
from server.core.flags import FlagKind
from server.core.staleness import Exempt, StalePolicy, StaleState
from server.operations.staleness.managing import Staleness
from server.operations.staleness.sweeping import FIRST_LOOK, LOOK_EVERY, Sweeping
from server.operations.writes import Outcome, Write, Writer
from server.store import tables
from server.store.audit import list_entries
from server.store.engine import reading, writing
from server.store.locks import give_back_locks, take_locks
from server.store.stale_lists import StaleFilter, StalePage
from server.store.staleness import read_stored
from tests.announced import announced, check_announced
from tests.store.definitions import KINDS, NOW, another, behind_our_back, database, flag, put

DAY = timedelta(days=1)
EDITOR = Principal("token:editor", (Grant(Role.EDIT),))


@dataclass
class Shop:
    """A shop, at an instant that the test moves."""

    engine: Engine
    now: datetime = NOW

    def sweep(self, days: int = 0) -> list[tuple[str, str]]:
        """Go on by days and look; (type, flag) of what is told then."""
        before = len(self.told())
        self.now += days * DAY
        Sweeping(self.engine, lambda: self.now).carry_on(self.now)
        return [(type_.removeprefix("flag."), data["flag_key"]) for type_, data in self.told()[before:]]

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """What was said of stale flags, in order."""
        return [each for each in announced(self.engine) if "stale" in each[0]]

    def put(self, *changes: Any, **more: Any) -> None:
        """Commit now."""
        put(self.engine, *changes, now=self.now, **more)

    def write(self, **more: Any) -> Write:
        """How somebody asks."""
        return Write(**{"principal": EDITOR, "action": Action.EDIT, "now": self.now, **more})

    @property
    def staleness(self) -> Staleness:
        """What people say."""
        return Staleness(Writer(self.engine))

    def states(self) -> dict[str, StaleState]:
        """Key -> state, of all that were looked at."""
        with reading(self.engine) as connection:
            keys = list(connection.execute(select(tables.flags.c.key)).scalars())
            return {key: each.state for key, each in read_stored(connection, "shop", keys).items()}


@pytest.fixture(params=KINDS)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop with two flags: one splits, and one serves everybody the same."""
    with database(tmp_path, request.param, shop=True) as engine:
        beta = {"id": "beta", "condition": {"var": "beta"}, "serve": "on"}
        put(
            engine,
            PutFlag(flag("launched", default="on", owner="web", tags=["ui"])),
            PutFlag(flag("beta", rules=[beta])),
        )
        yield Shop(engine)
        check_announced(engine)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Shop]:
    """A shop on SQLite with one flag that is potentially stale."""
    with database(tmp_path, "sqlite", shop=True) as engine:
        put(engine, PutFlag(flag("launched", default="on", owner="web", tags=["ui"])))
        shop = Shop(engine)
        assert [("potentially_stale", "launched")] == shop.sweep(31)
        yield shop
        check_announced(engine)


def test_flags_grow_stale(shop: Shop) -> None:
    """One after a month with one variant, the other past its lifetime; each after its grace."""
    assert [] == shop.sweep()
    assert [("potentially_stale", "launched")] == shop.sweep(31)
    assert [] == shop.sweep(1)
    assert [("potentially_stale", "beta")] == shop.sweep(8)
    assert [("stale", "launched")] == shop.sweep(5)
    assert [("stale", "beta")] == shop.sweep(9)
    assert [] == shop.sweep(1_000)
    first, second = (data for _, data in shop.told()[:2])
    assert ("one_variant", True, "on", 31, "web", ["ui"]) == tuple(
        first[name] for name in ("rule", "one_variant", "served_variant", "days_since_change", "owner", "tags")
    )
    assert ["everybody gets variant 'on', and nobody has changed it for 31 days"] == first["evidence"]
    assert ("lifetime", 40, "2026-02-10T12:00:00+00:00", None) == tuple(
        second[name] for name in ("rule", "lifetime_days", "expires_at", "served_variant")
    )


def test_several_that_look_tell_it_once(shop: Shop) -> None:
    """Processes with connections of their own, at the same moment."""
    shop.sweep()
    for number in range(20):
        shop.put(PutFlag(flag(f"more-{number:02}", default="on")))
    shop.now += 31 * DAY
    engines = [another(shop.engine) for _ in range(3)]
    sweepers = [Sweeping(engine, lambda: shop.now) for engine in engines]
    threads = [threading.Thread(target=each.carry_on, args=(shop.now,)) for each in sweepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.dispose()
    told = [data["flag_key"] for _, data in shop.told()]

    assert sorted(["launched", *(f"more-{number:02}" for number in range(20))]) == sorted(told)


def test_a_change_clears(one: Shop) -> None:
    """And the terms begin anew; past its lifetime a flag may rest for a week."""
    one.put(SetDefault("launched", "off"))
    assert [("stale_cleared", "launched")] == one.sweep()
    assert [] == one.sweep(8)
    assert [("potentially_stale", "launched")] == one.sweep(1)
    cleared = one.told()[1][1]
    assert ("activity", "active", "potentially_stale") == tuple(
        cleared[name] for name in ("by", "state", "previous_state")
    )


def test_an_archived_flag_is_not_stale(one: Shop) -> None:
    """It has gone the way that it was to go; one that is restored begins anew."""
    one.put(ArchiveFlag("launched", one.now))

    assert [("stale_cleared", "launched")] == one.sweep()
    assert "archived" == one.told()[-1][1]["by"]
    assert [] == one.sweep(1_000)


def test_a_flag_that_is_gone_is_forgotten(one: Shop) -> None:
    """And another one of its key is as young as it is."""
    one.put(RemoveFlag("launched"))
    one.sweep()
    assert {} == one.states()
    one.put(PutFlag(flag("launched", default="on")))
    assert [] == one.sweep(29)
    assert [("potentially_stale", "launched")] == one.sweep(1)


def test_a_flag_that_was_made_anew_between_two_looks_is_young(one: Shop) -> None:
    """Its key alone is old."""
    one.put(RemoveFlag("launched"))
    one.put(PutFlag(flag("launched", default="on")))

    assert [("stale_cleared", "launched")] == one.sweep()
    assert [] == one.sweep(29)


def test_critical_environments_decide(shop: Shop) -> None:
    """What staging tries out keeps nothing in use; without a critical one every environment counts."""
    shop.put(PutFlag(flag("launched", default="off")), environment="staging")
    assert [] == shop.sweep(31)
    shop.put(UpdateEnvironment(critical=True))
    assert [("potentially_stale", "launched")] == shop.sweep()
    shop.put(DeleteEnvironment(), environment="staging")
    assert [] == shop.sweep()


def test_what_is_still_to_change_a_flag_holds_it(one: Shop) -> None:
    """A release that moves it shows that it is in use."""
    with writing(one.engine) as connection:
        take_locks(connection, "shop", subjects=[("production", "launched")], holder="release:rl_1", locks=False)
    assert [("stale_cleared", "launched")] == one.sweep(14)
    known = one.staleness.read("shop", "launched", one.now)
    assert (Exempt.HELD, ("release rl_1",)) == (known.stored.facts.exempt, known.holders)
    with writing(one.engine) as connection:
        give_back_locks(connection, "shop", holder="release:rl_1")
    assert [("potentially_stale", "launched")] == one.sweep(1)


def test_a_damaged_flag_holds_nobody_up(one: Shop) -> None:
    """It is left alone until it is mended."""
    with behind_our_back(one.engine) as connection:
        connection.execute("UPDATE flag SET document = '{'")

    assert [] == one.sweep(14)
    assert one.sweep(1) == []
    with pytest.raises(Refused, match="is damaged"):
        one.staleness.read("shop", "launched", one.now)


def test_nothing_is_written_where_nothing_is_new(one: Shop) -> None:
    """A look at what was looked at costs a few queries."""
    written: list[str] = []
    event.listen(
        one.engine,
        "before_cursor_execute",
        lambda *given: written.append(given[2]) if "SELECT" not in given[2] else None,
    )
    one.sweep()

    assert [] == [each for each in written if each.startswith(("INSERT", "UPDATE", "DELETE", "BEGIN IMMEDIATE"))]


def test_a_server_looks_a_while_after_its_start(one: Shop) -> None:
    """And then every few seconds, or when a flag is due."""
    sweeping = Sweeping(one.engine, lambda: one.now)
    with reading(one.engine) as connection:
        first = sweeping.next_at(connection)
        sweeping.carry_on(one.now + FIRST_LOOK)
        later = sweeping.next_at(connection)

    assert (one.now + FIRST_LOOK, one.now + FIRST_LOOK + LOOK_EVERY) == (first, later)


def test_a_large_project_is_looked_at_in_portions(one: Shop) -> None:
    """Every flag of it, also of one that was there before anybody looked."""
    one.put(*(PutFlag(flag(f"f-{number:03}", default="on")) for number in range(250)))
    with writing(one.engine) as connection:
        connection.exec_driver_sql("DELETE FROM staleness_look")
        connection.exec_driver_sql("DELETE FROM flag_staleness")

    assert 1 == len(one.sweep())
    assert 251 == len(one.states())
    assert 251 == len(one.sweep(30))


def test_a_snoozed_flag_is_not_heard_of(one: Shop) -> None:
    """Until its instant; it begins with a notice then."""
    written = one.staleness.snooze("shop", "launched", one.now + 50 * DAY, one.write(reason="spring sale"))
    again = one.staleness.snooze("shop", "launched", one.now + 50 * DAY, one.write(reason="spring sale"))

    assert (Outcome.APPLIED, Outcome.UNCHANGED) == (written.outcome, again.outcome)
    assert ("snooze", "snoozed", (one.now + 50 * DAY).isoformat()) == tuple(
        one.told()[-1][1][name] for name in ("by", "state", "snoozed_until")
    )
    assert [] == one.sweep(49)
    assert [("potentially_stale", "launched")] == one.sweep(1)
    assert [("stale", "launched")] == one.sweep(14)


def test_a_marked_flag_is_stale_at_once(one: Shop) -> None:
    """In the words of who said so, until it is changed."""
    written = one.staleness.mark("shop", "launched", one.write(reason="see T-12", cause="T-12"))
    assert Outcome.APPLIED is written.outcome
    type_, data = one.told()[-1]
    assert ("flag.stale", "marked", "see T-12", "T-12") == (type_, data["rule"], data["reason"], data["cause"])
    assert Outcome.UNCHANGED is one.staleness.mark("shop", "launched", one.write()).outcome
    assert [] == one.sweep(1)
    one.put(SetDefault("launched", "off"))
    assert [("stale_cleared", "launched")] == one.sweep()


def test_what_was_said_can_be_taken_back(one: Shop) -> None:
    """Then it is looked at like any other."""
    one.staleness.mark("shop", "launched", one.write())
    cleared = one.staleness.clear("shop", "launched", one.write(reason="not yet"))

    assert (Outcome.APPLIED, StaleState.ACTIVE) == (cleared.outcome, cleared.known.stored.state)
    assert [("potentially_stale", "launched")] == one.sweep()
    assert Outcome.UNCHANGED is one.staleness.clear("shop", "launched", one.write()).outcome


def test_a_permanent_flag_stays(one: Shop) -> None:
    """It is an edit of the flag, and clears at once."""
    written = one.staleness.mark_permanent("shop", "launched", one.write())

    assert Outcome.APPLIED is written.outcome
    assert ("stale_cleared", "permanent") == (one.told()[-1][0].removeprefix("flag."), one.told()[-1][1]["by"])
    assert [] == one.sweep(1_000)
    with pytest.raises(Refused, match="is permanent, so it is never stale"):
        one.staleness.mark("shop", "launched", one.write())


def test_a_dry_run_changes_nothing(one: Shop) -> None:
    """Whatever is asked."""
    before = one.told(), one.states()
    dry = one.write(dry_run=True)
    outcomes = [
        one.staleness.snooze("shop", "launched", one.now + DAY, dry).outcome,
        one.staleness.mark("shop", "launched", dry).outcome,
        one.staleness.mark_permanent("shop", "launched", dry).outcome,
        one.staleness.set_policy("shop", lambda policy: replace(policy, grace_days=1), dry).outcome,
    ]

    assert [Outcome.WOULD_APPLY] * 4 == outcomes
    assert before == (one.told(), one.states())


def test_only_who_may_edit_the_project_says_something(one: Shop) -> None:
    """A flag is stale in all environments, so one of them is not enough."""
    there = Principal("token:there", (Grant(Role.EDIT, "shop", "staging"),))

    with pytest.raises(PermissionDenied):
        one.staleness.mark("shop", "launched", one.write(principal=there))
    with pytest.raises(PermissionDenied):
        one.staleness.set_policy("shop", lambda policy: policy, one.write(principal=there))


@pytest.mark.parametrize("days", [0, -1, 4_000])
def test_a_snooze_ends_in_time(one: Shop, days: int) -> None:
    """Not in the past, and not for ever: that is what permanent flags are for."""
    with pytest.raises(InvalidRequest, match="expected an instant in the next 3650 days"):
        one.staleness.snooze("shop", "launched", one.now + days * DAY, one.write())


def test_unknown_flags_are_not_found(one: Shop) -> None:
    """By their key."""
    with pytest.raises(NotFound, match="flag 'other' is not in project 'shop'"):
        one.staleness.mark("shop", "other", one.write())


def test_other_terms_are_applied_to_all(one: Shop) -> None:
    """Also to flags that are stale already; each set of terms has a version."""
    terms = StalePolicy({FlagKind.RELEASE: None}, unchanged_days=90)
    written = one.staleness.set_policy("shop", lambda _: terms, one.write())
    assert (1, Outcome.APPLIED) == (written.version, written.outcome)
    assert [("stale_cleared", "launched")] == one.sweep()
    assert "kind" == one.told()[-1][1]["by"]
    longer = replace(terms, lifetimes={FlagKind.RELEASE: 365})
    one.staleness.set_policy("shop", lambda _: longer, one.write(expected_version=1))
    with pytest.raises(Stale, match="has version 2, expected 1"):
        one.staleness.set_policy("shop", lambda _: longer, one.write(expected_version=1))
    assert [] == one.sweep()
    assert [("potentially_stale", "launched")] == one.sweep(60)
    told = [data for type_, data in one.told() if type_ == "staleness_policy.updated"]
    assert (90, ["release: none"]) == (told[0]["unchanged_days"], told[0]["lifetimes"][:1])


def test_the_audit_trail_has_who_said_what(one: Shop) -> None:
    """What the clock found under its own name, and people's words under theirs."""
    one.staleness.mark("shop", "launched", one.write(reason="see T-12"))
    with reading(one.engine) as connection:
        entries = [each for each in list_entries(connection, project="shop") if "stale" in each.action]

    assert [("flag.stale", "token:editor", "see T-12"), ("flag.potentially_stale", "staleness")] == [
        (entries[0].action, entries[0].actor, entries[0].reason),
        (entries[1].action, entries[1].actor),
    ]


def test_lists_are_filtered_and_paged(shop: Shop) -> None:
    """The longest stale first."""
    shop.sweep(31)
    shop.sweep(10)
    listed = shop.staleness.list("shop", StaleFilter(), StalePage(size=1))[0]
    more = shop.staleness.list("shop", StaleFilter(), StalePage(after=listed.end))[0]
    owned = shop.staleness.list("shop", StaleFilter(owner="web", tags=["ui"]), StalePage())[0]
    none = shop.staleness.list("shop", StaleFilter(states=[StaleState.STALE]), StalePage())[0]

    assert (["launched"], 2, False) == ([each.stored.key for each in listed.flags], listed.total, listed.is_last)
    assert (["beta"], True) == ([each.stored.key for each in more.flags], more.is_last)
    assert (["launched"], []) == ([each.stored.key for each in owned.flags], list(none.flags))
