"""The keys of large segments are kept in chunks, follow each commit, and go with their segment."""

from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import Engine

from server.core.changes import (
    AddSegmentKeys,
    CreateEnvironment,
    DeleteEnvironment,
    PutFlag,
    PutSegment,
    RemoveSegment,
    RemoveSegmentKeys,
)
from server.core.errors import InvalidRequest, TooLarge
from server.core.evaluation.snapshot import Snapshot
from server.core.keylists import KeyList, key_list
from server.core.resolution import Reason
from server.core.segments import Segment
from server.live.loader import compile_documents, load_snapshot, refresh_snapshot
from server.store.audit import list_entries, verify_chain
from server.store.commit import commit_all
from server.store.engine import reading
from server.store.flagsets import read_flag_set
from server.store.keylists import check_key_bytes, load_key_list, load_key_lists
from server.store.orders import Part, Seen
from server.store.revisions import load_documents_at
from server.store.saving import Cause
from tests.store.definitions import NOW, SHOP, behind_our_back, flag, put, stored

HERE: Final[dict[str, Any]] = {"project": "shop", "environment": "production"}
MANY: Final = [f"user-{number}" for number in range(12_000)]
LARGE: Final = Segment("large", key_list=key_list(MANY))
FLAG: Final = flag(rules=[{"id": "many", "condition": {"$ref": "large"}, "serve": "on"}])


@pytest.fixture
def large(shop: Engine) -> Engine:
    """The shop with a large segment and a flag that is on for it."""
    put(shop, PutSegment(LARGE), PutFlag(FLAG))
    return shop


def kept(engine: Engine) -> KeyList:
    """The segment's keys as they are in the database."""
    with reading(engine) as connection:
        return load_key_list(connection, SHOP, "large")


def rows(engine: Engine, where: str = "1 = 1") -> int:
    """The chunks that are kept."""
    with reading(engine) as connection:
        found = connection.exec_driver_sql(f"SELECT count(*) FROM segment_chunk WHERE {where}").scalar_one()
        return int(found)


def served(snapshot: Snapshot, unit: str) -> object:
    """What the flag serves a unit."""
    return snapshot.resolve("checkout", {"targetingKey": unit}, 0).value


def test_keys_are_kept_apart_from_the_definition(large: Engine) -> None:
    """Revisions and audit entries have number and digest, and stay small."""
    head = {"count": 12_000, "digest": key_list(MANY).digest}

    assert key_list(MANY) == kept(large)
    assert {"keyList": head} == stored(large).segments["large"]
    with reading(large) as connection:
        assert LARGE == read_flag_set(connection, **HERE).segments["large"]
        entry = list_entries(connection, project="shop", subject=("segment", "large"))[0]
    assert len(entry.after or "") < 200


def test_a_commit_writes_the_chunks_that_differ(large: Engine) -> None:
    """Adding and removing a few keys costs as much as those, not as the list."""
    put(large, AddSegmentKeys("large", key_list(["zoe", "adam", "user-1"])))
    put(large, RemoveSegmentKeys("large", key_list(["user-5", "nobody"])))

    assert key_list([*(key for key in MANY if key != "user-5"), "zoe", "adam"]) == kept(large)
    assert (2, 1) == (rows(large, "revision = 3"), rows(large, "revision = 4"))
    assert {"count": 12_001, "digest": kept(large).digest} == stored(large).segments["large"]["keyList"]  # type: ignore[index]


def test_the_same_again_changes_nothing(large: Engine) -> None:
    """A repeated addition is no commit; a repeated request gets its first answer."""
    added = AddSegmentKeys("large", key_list(["zoe"]))
    first = put(large, added, request_id="r1")
    again = put(large, added, request_id="r1")

    assert (replace(first, unsent={}), 3) == (again, first.revision)
    assert put(large, added).unchanged


def test_a_list_replaces_another(large: Engine) -> None:
    """Whole, in either form."""
    put(large, PutSegment(Segment("large", key_list=key_list(MANY[:11_000]))))
    assert key_list(MANY[:11_000]) == kept(large)
    put(large, PutSegment(Segment("large", keys=("alice",))))
    assert 0 == rows(large)
    put(large, PutSegment(Segment("large", key_list=key_list(MANY[500:]))))

    assert key_list(MANY[500:]) == kept(large)


def test_a_list_that_becomes_short_goes_back_into_its_definition(large: Engine) -> None:
    """And one that grows long leaves it."""
    put(large, RemoveSegmentKeys("large", key_list(MANY[3:])))
    assert ({"keys": ["user-0", "user-1", "user-2"]}, 0) == (stored(large).segments["large"], rows(large))
    put(large, AddSegmentKeys("large", key_list(MANY)))

    assert key_list(MANY) == kept(large)


def test_keys_go_with_their_segment(large: Engine) -> None:
    """And with their environment."""
    put(large, PutSegment(replace(LARGE, key="other")))
    put(large, RemoveSegment("other"))
    assert 0 == rows(large, "segment = 'other'")
    put(large, DeleteEnvironment())
    assert 0 == rows(large)
    put(large, CreateEnvironment(SHOP), PutSegment(Segment("large", keys=("alice",))))

    assert {"keys": ["alice"]} == stored(large).segments["large"]


def test_a_description_changes_without_the_keys(large: Engine) -> None:
    """They are not read, and stay."""
    with reading(large) as connection:
        before = read_flag_set(connection, **HERE).segments["large"]
    put(large, PutSegment(replace(before, description="Many", key_list=KeyList(12_000, key_list(MANY).digest))))
    put(large, PutSegment(replace(before, description="Very many")))

    assert (key_list(MANY), 0) == (kept(large), rows(large, "revision > 2"))


def test_what_it_would_do_can_be_evaluated(large: Engine) -> None:
    """Whoever looks on in a trial has the keys before and after."""
    seen: list[Seen] = []
    part = Part("production", [RemoveSegmentKeys("large", key_list(["user-1"]))])
    commit_all(large, parts=[part], why=Cause("shop", "ann", NOW, "", "", ""), observe=seen.append, dry_run=True)

    lists = [seen[0].before.segments["large"].key_list, seen[0].after.flag_set.segments["large"].key_list]
    assert [True, False] == [keys is not None and "user-1" in keys for keys in lists]
    assert key_list(MANY) == kept(large)


def test_a_snapshot_follows(large: Engine) -> None:
    """Only what changed is read again, also when nothing of the list did."""
    with reading(large) as connection:
        snapshot = load_snapshot(connection, **HERE)
    assert (True, False) == (served(snapshot, "user-7"), served(snapshot, "zoe"))
    put(large, AddSegmentKeys("large", key_list(["zoe"])))
    put(large, RemoveSegmentKeys("large", key_list(["user-7"])))
    with reading(large) as connection:
        refreshed = refresh_snapshot(connection, snapshot)
    put(large, PutFlag(flag(rules=[{"id": "some", "condition": {"$ref": "large"}, "serve": "on"}])))
    with reading(large) as connection:
        last = refresh_snapshot(connection, refreshed)

    assert (True, False) == (served(snapshot, "user-7"), served(snapshot, "zoe"))
    assert [(False, True)] * 2 == [(served(each, "user-7"), served(each, "zoe")) for each in (refreshed, last)]
    assert (12_000, 2) == _read_again(large, snapshot, refreshed)


def _read_again(engine: Engine, before: Snapshot, after: Snapshot) -> tuple[int, int]:
    """How long the list is afterwards, and how many chunks of it are not the same objects as before."""
    old, new = (each.wire["live.key_lists"]["large"] for each in (before, after))
    return new.count, sum(one is not other for one, other in zip(old.chunks, new.chunks, strict=True))


def test_a_snapshot_follows_a_list_that_went_and_came(large: Engine) -> None:
    """Chunks that were deleted in between are not kept by accident."""
    with reading(large) as connection:
        snapshot = load_snapshot(connection, **HERE)
    put(large, RemoveSegmentKeys("large", key_list(MANY[1:])))
    put(large, AddSegmentKeys("large", key_list(MANY[1_000:])))
    with reading(large) as connection:
        refreshed = refresh_snapshot(connection, snapshot)

    assert (True, False, True) == tuple(served(refreshed, unit) for unit in ("user-0", "user-7", "user-1000"))


def test_as_of_an_earlier_revision_it_is_exact_or_an_error(large: Engine) -> None:
    """The list of then where it is the list of now, and never another one."""
    put(large, AddSegmentKeys("large", key_list(["zoe"])))
    put(large, PutFlag(flag("other")))
    with reading(large) as connection:
        documents = [load_documents_at(connection, **HERE, revision=revision) for revision in (2, 3, 4)]
    answers = [compile_documents(each).resolve("checkout", {"targetingKey": "zoe"}, 0) for each in documents]

    assert [Reason.ERROR, Reason.TARGETING_MATCH, Reason.TARGETING_MATCH] == [answer.reason for answer in answers]
    assert "the 12000 keys of a large segment" in answers[0].error_message


def test_a_damaged_chunk_is_noticed(large: Engine) -> None:
    """Its keys answer nothing, rather than wrongly; putting the list anew mends it."""
    with behind_our_back(large) as connection:
        connection.execute("UPDATE segment_chunk SET packed = substr(packed, 1, 5) WHERE place = 7")
    with reading(large) as connection:
        snapshot = load_snapshot(connection, **HERE)
        assert {} == load_key_lists(connection, SHOP, stored(large).segments)
    assert Reason.ERROR is snapshot.resolve("checkout", {"targetingKey": "user-7"}, 0).reason

    put(large, RemoveSegment("large"), PutSegment(Segment("large", keys=("alice",))))
    put(large, PutSegment(LARGE))
    with reading(large) as connection:
        assert served(load_snapshot(connection, **HERE), "user-7")
        assert [] == verify_chain(connection, project="shop")


def test_all_lists_of_an_environment_are_bounded_together(large: Engine) -> None:
    """Each alone may be within its bound."""
    put(large, PutSegment(replace(LARGE, key="other")))
    with reading(large) as connection:
        check_key_bytes(connection, SHOP)
        with pytest.raises(TooLarge, match=r"'shop/production' would take 2\d{5} bytes, at most 200000"):
            check_key_bytes(connection, SHOP, bytes_max=200_000)


def test_other_keys_than_the_stored_ones_must_come_along(large: Engine) -> None:
    """Reverting to an earlier list is refused with the reason."""
    with pytest.raises(InvalidRequest, match="comes without its 20000 keys"):
        put(large, PutSegment(Segment("large", key_list=KeyList(20_000, "0" * 64))))


def test_the_writer_is_told_what_is_not_sent(large: Engine) -> None:
    """Every time that it is concerned, and only then."""
    assert {"checkout": frozenset({"large"})} == put(large, AddSegmentKeys("large", key_list(["zoe"]))).unsent
    assert {} == put(large, PutFlag(flag("other"))).unsent
