"""What a flag set takes to send to in-process clients is counted at each commit, and bounded."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from server.core.changes import Change, PutFlag, PutSegment, RemoveFlag, UpdateEnvironment
from server.core.errors import TooLarge
from server.core.evaluation.exporting import join_flags
from server.core.limits import SYNC_BYTES_MAX
from server.live.loader import load_snapshot
from server.store.engine import reading
from tests.store.definitions import NOW, at, behind_our_back, flag, put, segment

SUM = "SELECT sum(sync_bytes) FROM flag_config WHERE environment = '{}'"


def counted(engine: Engine, environment: str = "production") -> int | None:
    """The sum that a commit looks at."""
    with reading(engine) as connection:
        total: int | None = connection.exec_driver_sql(SUM.format(environment)).scalar_one()
        kept = connection.exec_driver_sql(
            f"SELECT sync_total FROM environment WHERE key = '{environment}'"
        ).scalar_one()
        assert kept in (None, total)
        return total


def sent(engine: Engine, environment: str = "production") -> int:
    """The same as the sum, from the text that would be sent: its frame has 12 bytes, and the last comma is absent."""
    with reading(engine) as connection:
        flags = load_snapshot(connection, project="shop", environment=environment).flags
    text = join_flags((key, compiled.exported) for key, compiled in flags.items() if compiled.exported)
    return len(text) - 12 + bool(flags)


def bulky(key: str, kilobytes: int, fill: str = "x") -> PutFlag:
    """A flag whose one variant has about this size."""
    return PutFlag(
        flag(key, type="object", variants={"on": {f"{n}": fill * 1_000 for n in range(kilobytes)}}, default="on")
    )


ADULT = segment("adult", {">=": [{"var": "age"}, 18]})
RULED = flag("ruled", rules=[{"id": "a", "condition": {"$ref": "adult"}, "serve": "on"}])
NEEDY = flag("needy", prerequisites=[{"flag": "ruled", "variants": ["on"]}], offVariant="off")

STEPS: dict[str, list[Change]] = {
    "flags are new": [PutSegment(ADULT), PutFlag(RULED), PutFlag(NEEDY), PutFlag(flag("plain"))],
    "a flag grows": [PutFlag(flag("plain", metadata={"about": "d\u00fcsseldorf \U0001f600"}))],
    "a segment grows": [PutSegment(segment("adult", {">=": [{"var": "a.longer.path"}, 21]}))],
    "a prerequisite grows": [PutFlag(flag("ruled", targets={"on": ["ann", "bob"]}))],
    "metadata are new": [UpdateEnvironment(metadata={"team": "web", "version": 7})],
    "a flag is archived": [PutFlag(flag("plain", archivedAt="2026-01-01T00:00:00Z"))],
    "flags go": [RemoveFlag("needy"), RemoveFlag("plain")],
}


def test_every_change_is_counted(shop: Engine) -> None:
    """After each of these, one after the other, the sum is what is sent."""
    sums: dict[str, tuple[int, int | None]] = {}
    for name, changes in STEPS.items():
        put(shop, *changes)
        sums[name] = sent(shop), counted(shop)

    assert {name: (expected, expected) for name, (expected, _) in sums.items()} == sums
    assert len(STEPS) == len(set(sums.values())), "a step that changes no size proves nothing"


def test_too_much_is_refused_whole(shop: Engine) -> None:
    """The message names the flag set, its size, the bound and what helps; nothing is stored."""
    put(shop, *(bulky(f"flag-{number}", 60) for number in range(60)))

    with pytest.raises(TooLarge) as refused:
        put(shop, *(bulky(f"more-{number}", 60) for number in range(9)))

    message = str(refused.value)
    assert (2, 60) == (at(shop).revision, rows(shop))
    assert all(word in message for word in ("'shop/production'", " 41", str(SYNC_BYTES_MAX), "--no-sync")), message


def rows(engine: Engine) -> int:
    """Flags in production."""
    with reading(engine) as connection:
        count: int = connection.exec_driver_sql(
            "SELECT count(*) FROM flag_config WHERE environment = 'production'"
        ).scalar_one()
        return count


def test_without_sync_nothing_is_counted(shop: Engine) -> None:
    """A set for evaluation here only may be as large as it likes, and forgets its sizes."""
    put(shop, PutFlag(flag()))
    put(shop, UpdateEnvironment(sync=False), *(bulky(f"flag-{number}", 60) for number in range(80)))

    assert (None, 81) == (counted(shop), rows(shop))


def test_switching_sync_on_counts_everything(shop: Engine) -> None:
    """It is refused while the set is too large, and the set stays as it is."""
    put(shop, UpdateEnvironment(sync=False), *(bulky(f"flag-{number}", 60) for number in range(80)))
    with pytest.raises(TooLarge):
        put(shop, UpdateEnvironment(sync=True))
    assert not at(shop).environment.sync

    put(shop, UpdateEnvironment(sync=True), *(RemoveFlag(f"flag-{number}") for number in range(20)))

    assert (sent(shop), True) == (counted(shop), at(shop).environment.sync)


def test_what_was_never_counted_is_counted(shop: Engine) -> None:
    """As after a migration: the next commit, of any flag, counts the others too; a damaged one is sent to nobody."""
    put(shop, PutFlag(flag("old")), PutFlag(flag("broken")), PutFlag(flag("changed")))
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE flag_config SET sync_bytes = NULL")
        connection.execute("UPDATE environment SET sync_total = NULL")
        connection.execute("UPDATE flag_config SET document = 'x' WHERE key = 'broken'")

    put(shop, PutFlag(flag("changed", description="again")))

    assert sent(shop) == counted(shop)


def test_a_shared_part_is_counted_elsewhere(shop: Engine) -> None:
    """A variant that is added here is sent from staging too, whose bound it must keep."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag()), *(bulky(f"flag-{number}", 60) for number in range(68)), environment="staging")
    put(shop, PutFlag(flag(variants={"on": True, "off": False, "sso": True})))
    assert sent(shop, "staging") == counted(shop, "staging")

    with pytest.raises(TooLarge, match="'shop/staging'"):
        put(shop, PutFlag(flag(metadata={f"{number}": "x" * 4_000 for number in range(60)})))


def test_who_depends_on_a_shared_part_is_counted_elsewhere(shop: Engine) -> None:
    """A flag that is archived here is off in staging too, and its dependents there are written out in another way."""
    for environment in ("production", "staging"):
        put(shop, PutSegment(ADULT), PutFlag(RULED), PutFlag(NEEDY), environment=environment)
    before = counted(shop, "staging")

    put(shop, PutFlag(replace(RULED, flag=replace(RULED.flag, archived_at=NOW))))

    assert before != sent(shop, "staging") == counted(shop, "staging")
