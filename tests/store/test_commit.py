"""One door for change: whole or not at all, counted, audited, announced."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from random import Random

import psycopg
import pytest
from sqlalchemy import Engine, func, select

from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    PutFlag,
    PutSegment,
    RemoveFlag,
    RemoveSegment,
    UpdateEnvironment,
)
from server.core.environments import Bucketing
from server.core.errors import (
    Conflict,
    FlagstaffError,
    InvalidDefinition,
    InvalidRequest,
    NotFound,
    Refused,
    Stale,
    TooLarge,
)
from server.core.events import FlagCreated, FlagUpdated
from server.store import tables
from server.store.audit import list_entries, verify_chain
from server.store.commit import Committed
from server.store.engine import reading
from server.store.flagsets import Touched, read_flag_set, touched_since
from tests.store.definitions import (
    NOW,
    ON_SQLITE,
    SHOP,
    at,
    behind_our_back,
    flag,
    put,
    segment,
    stored,
    unlock_history,
)

INTEGRITY = (sqlite3.IntegrityError, psycopg.IntegrityError)
BETA = segment("beta", {"==": [{"var": "plan"}, "beta"]})


def test_a_flag_comes_back_as_it_went_in(shop: Engine) -> None:
    """Values survive the store."""
    definition = flag(owner="ann", rules=[{"share": {"percent": 12.5}, "serve": {"weights": {"off": 1, "on": 2}}}])
    put(shop, PutFlag(definition), PutSegment(BETA))

    with reading(shop) as connection:
        flag_set = read_flag_set(connection, project="shop", environment="production")
    assert ({"checkout": definition}, {"beta": BETA}) == (flag_set.flags, flag_set.segments)


def test_every_commit_is_counted_audited_and_announced(shop: Engine) -> None:
    """A revision, an audit entry and an event for each thing that changed."""
    committed = put(shop, PutFlag(flag()), reason="launch", cause="ticket 7", request_id="r1")

    assert 2 == committed.revision
    assert Touched(2, frozenset({"checkout"})) == committed.touched
    with reading(shop) as connection:
        (entry, *_) = list_entries(connection, project="shop")
        event = connection.execute(select(tables.outbox).order_by(tables.outbox.c.sequence.desc())).first()
    assert ("ann", "flag.created", "checkout", "launch", "ticket 7", "r1", NOW) == (
        entry.actor, entry.action, entry.subject_key, entry.reason, entry.cause, entry.request_id, entry.at,
    )  # fmt: skip
    assert event is not None
    payload = json.loads(event.payload)
    assert (4, "flag.created", 2, None) == (event.sequence, event.type, payload["revision"], payload["before"])
    assert {"on": True, "off": False} == payload["after"]["variants"]


def test_the_same_again_is_no_commit(shop: Engine) -> None:
    """Putting what is there already leaves no trace."""
    put(shop, PutFlag(flag()))
    before = counts(shop)

    assert Committed(2, (), Touched(2), unchanged=True) == put(shop, PutFlag(flag()))
    assert before == counts(shop)


def test_a_number_is_not_a_boolean(shop: Engine) -> None:
    """1 and true are equal in Python only; putting one for the other is a change."""
    put(shop, PutFlag(flag(targeting={"if": [{"===": [{"var": "a"}, 1]}, "on"]})))
    put(shop, PutFlag(flag(targeting={"if": [{"===": [{"var": "a"}, True]}, "on"]})))

    document = stored(shop).flags["checkout"]
    assert document is not None
    assert document["targeting"]["if"][0]["==="][1] is True


def test_what_is_wrong_changes_nothing(shop: Engine) -> None:
    """One bad definition refuses the whole commit, with its path."""
    before = counts(shop)
    bad = flag("bad", prerequisites=[{"flag": "gone", "variants": ["on"]}])

    with pytest.raises(InvalidDefinition, match="/flags/bad/prerequisites/0/flag: flag 'gone' does not exist"):
        put(shop, PutFlag(flag()), PutFlag(bad))
    assert before == counts(shop)


def test_values_that_were_not_read_are_checked(shop: Engine) -> None:
    """Whoever made the value, the door looks at what would be stored."""
    definition = flag()
    broken = replace(definition, config=replace(definition.config, default="maybe"))

    with pytest.raises(InvalidDefinition, match="/flags/checkout/default"):
        put(shop, PutFlag(broken))


def test_dependents_are_checked(shop: Engine) -> None:
    """A variant that another flag waits for cannot go."""
    put(shop, PutFlag(flag("base")), PutFlag(flag("top", prerequisites=[{"flag": "base", "variants": ["on"]}])))
    without_on = flag("base", variants={"yes": True, "off": False})

    with pytest.raises(InvalidDefinition, match="/flags/top/prerequisites/0/variants/0"):
        put(shop, PutFlag(without_on))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (RemoveFlag("base"), "flag 'base' cannot be removed: flag 'top' would miss it"),
        (RemoveSegment("beta"), "segment 'beta' cannot be removed: flag 'top' would miss it"),
    ],
)
def test_what_others_need_stays(shop: Engine, change: Change, message: str) -> None:
    """Removing is refused while somebody depends on it, by name."""
    top = flag("top", prerequisites=[{"flag": "base", "variants": ["on"]}],
               rules=[{"condition": {"$ref": "beta"}, "serve": "on"}])  # fmt: skip
    put(shop, PutFlag(flag("base")), PutSegment(BETA), PutFlag(top))

    with pytest.raises(Refused, match=message):
        put(shop, change)
    put(shop, RemoveFlag("top"))
    assert 4 == put(shop, change).revision


def test_a_circle_through_stored_flags_is_found(shop: Engine) -> None:
    """The neighbourhood reaches as far as the circle does."""
    chain = [flag(f"f{n}", prerequisites=[{"flag": f"f{n + 1}", "variants": ["on"]}]) for n in range(4)]
    put(shop, *(PutFlag(each) for each in chain), PutFlag(flag("f4")))

    with pytest.raises(InvalidDefinition, match="circle"):
        put(shop, PutFlag(flag("f4", prerequisites=[{"flag": "f0", "variants": ["on"]}])))


def test_a_removed_flag_leaves_its_history(shop: Engine) -> None:
    """The rows of the present go, also the references; the past stays."""
    put(shop, PutSegment(BETA), PutFlag(flag(rules=[{"condition": {"$ref": "beta"}, "serve": "on"}])))
    put(shop, RemoveFlag("checkout"))

    assert {"flag": 0, "flag_config": 0, "reference": 0} == {
        name: count for name, count in counts(shop).items() if name in ("flag", "flag_config", "reference")
    }
    assert 5 == counts(shop)["revision"]


def test_a_flag_stays_while_another_environment_has_it(shop: Engine) -> None:
    """Removing is per environment."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag()), environment="staging")
    put(shop, RemoveFlag("checkout"))

    assert ([], ["checkout"]) == (list(stored(shop).flags), list(stored(shop, "staging").flags))


def test_the_shared_part_moves_every_environment(shop: Engine) -> None:
    """A new description is a revision in each environment that has the flag."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag(default="on")), environment="staging")
    committed = put(shop, PutFlag(flag(description="pay")))

    assert ({"staging": 3}, 3) == (dict(committed.elsewhere), at(shop, "staging").revision)
    document = stored(shop, "staging").flags["checkout"]
    assert document is not None
    assert ("pay", "on") == (document["description"], document["default"])
    with reading(shop) as connection:
        touched = touched_since(connection, project="shop", environment="staging", revision=2)
    assert frozenset({"checkout"}) == touched.flags


def test_a_variant_that_is_used_elsewhere_stays(shop: Engine) -> None:
    """A put may not take a variant from under another environment."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag(default="on")), environment="staging")

    with pytest.raises(InvalidDefinition, match="in environment 'staging': variant 'on' does not exist"):
        put(shop, PutFlag(flag(variants={"yes": True, "off": False})))


def test_a_value_that_is_served_elsewhere_changes_on_request_only(shop: Engine) -> None:
    """Another value under the same name would silently change the other environment's answers."""
    put(shop, PutFlag(flag(variants={"a": 1, "b": 2}, default="a")))
    put(shop, PutFlag(flag(variants={"a": 1, "b": 2}, default="a")), environment="staging")
    other = PutFlag(flag(variants={"a": 7, "b": 2}, default="a"))

    with pytest.raises(InvalidDefinition, match=r"/flags/checkout/variants/a: another value .* in staging"):
        put(shop, other)
    assert {"staging": 3} == dict(put(shop, other, replace_variants=True).elsewhere)


def test_a_variant_may_be_added_everywhere(shop: Engine) -> None:
    """More variants break nothing."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag()), environment="staging")

    assert 3 == put(shop, PutFlag(flag(variants={"on": True, "off": False, "too": True}))).revision


def test_a_salt_stays(shop: Engine) -> None:
    """A definition without salts keeps the stored ones; one with others is refused."""
    salted = flag(rules=[{"id": "r", "share": {"percent": 10, "salt": "s"}, "serve": "on"}])
    put(shop, PutFlag(salted))
    put(shop, PutFlag(flag(rules=[{"id": "r", "share": {"percent": 20}, "serve": "on"}])))

    document = stored(shop).flags["checkout"]
    assert document is not None
    assert {"percent": 20, "salt": "s"} == document["rules"][0]["share"]
    with pytest.raises(InvalidDefinition, match="/flags/checkout/rules/0/share/salt"):
        put(shop, PutFlag(flag(rules=[{"id": "r", "share": {"percent": 20, "salt": "t"}, "serve": "on"}])))


def test_a_repeated_request_gets_its_first_answer(shop: Engine) -> None:
    """Sent twice, done once; also when others committed in between."""
    first = put(shop, PutFlag(flag()), PutSegment(BETA), request_id="r1", expected_revision=1)
    put(shop, PutFlag(flag(default="on")))
    before = counts(shop)

    assert first == put(shop, PutFlag(flag()), PutSegment(BETA), request_id="r1", expected_revision=1)
    assert before == counts(shop)


def test_a_repeated_request_without_effect_stays_without(shop: Engine) -> None:
    """What changed nothing the first time changes nothing later."""
    put(shop, PutFlag(flag()))
    first = put(shop, PutFlag(flag()), request_id="r1")
    put(shop, PutFlag(flag(default="on")))

    assert first == put(shop, PutFlag(flag()), request_id="r1")
    assert first.unchanged


def test_a_request_id_is_for_one_change(shop: Engine) -> None:
    """Another change under a used id is refused, not swallowed."""
    put(shop, PutFlag(flag()), request_id="r1")

    with pytest.raises(Conflict, match="request id 'r1' was used for another change"):
        put(shop, PutFlag(flag(default="on")), request_id="r1")


@pytest.mark.parametrize(
    ("send", "error", "message"),
    [
        (lambda shop: put(shop, PutFlag(flag()), expected_revision=7), Stale, "is at revision 1, expected 7"),
        (lambda shop: put(shop, PutFlag(flag()), environment="none"), NotFound, "'shop/none' does not exist"),
        (lambda shop: put(shop, PutFlag(flag()), project="none"), NotFound, "project 'none' does not exist"),
        (lambda shop: put(shop, RemoveFlag("none")), NotFound, "flag 'none' is not in 'shop/production'"),
        (lambda shop: put(shop, CreateProject("shop")), Conflict, "project 'shop' exists already"),
        (lambda shop: put(shop, CreateEnvironment(SHOP)), Conflict, "'shop/production' exists already"),
        (lambda shop: put(shop, CreateEnvironment(replace(SHOP, key="x"))), InvalidRequest, "cannot create 'shop/x'"),
        (lambda shop: put(shop, PutFlag(flag()), actor=""), InvalidRequest, "needs an actor"),
        (lambda shop: put(shop, PutFlag(flag()), reason="x" * 5000), TooLarge, "reason has 5000 characters"),
        (lambda shop: put(shop, PutFlag(flag()), request_id="x" * 257), TooLarge, "id has 257 characters"),
        (lambda shop: put(shop, PutFlag(flag()), reason="a\0b"), InvalidRequest, "reason has the character NUL"),
        (lambda shop: put(shop, UpdateEnvironment(name="a\0b")), InvalidRequest, "name has the character NUL"),
        (lambda shop: put(shop, PutFlag(flag()), now=NOW.replace(tzinfo=None)), InvalidRequest, "no time zone"),
        (lambda shop: put(shop, PutFlag(flag()), environment=""), InvalidRequest, "PutFlag needs an environment"),
    ],
)
def test_a_wrong_request_is_refused(
    shop: Engine, send: Callable[[Engine], Committed], error: type[FlagstaffError], message: str
) -> None:
    """The message says what is wrong, and nothing is written."""
    before = counts(shop)

    with pytest.raises(error, match=message):
        send(shop)
    assert before == counts(shop)


def test_any_owner_and_text_can_be_kept(shop: Engine) -> None:
    """Also a long one, one that does not compress, and one with a character that columns do not take."""
    random = Random(7)
    owner = "".join(chr(random.randrange(0x10000, 0x20000)) for _ in range(4_095)) + "\0"
    put(shop, PutFlag(flag("x" * 256, owner=owner, description="a\0b")))

    document = stored(shop).flags["x" * 256]
    assert document is not None
    assert (owner, "a\0b") == (document["owner"], document["description"])


def test_an_environment_changes_as_flags_do(shop: Engine) -> None:
    """Bucketing and metadata are changes with a revision of their own."""
    committed = put(shop, UpdateEnvironment(bucketing=Bucketing.V3, metadata={"team": "web"}))

    assert Touched(2, environment=True) == committed.touched
    assert replace(SHOP, bucketing=Bucketing.V3, metadata={"team": "web"}) == at(shop).environment


def test_a_damaged_flag_can_be_put_again(shop: Engine) -> None:
    """What somebody broke behind our back is repaired by an ordinary change."""
    put(shop, PutFlag(flag()))
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE flag_config SET document = '{\"rules\": 7'")

    assert stored(shop).flags == {"checkout": None}
    assert isinstance(put(shop, PutFlag(flag())).events[0], FlagUpdated)
    assert stored(shop).flags["checkout"] is not None


@ON_SQLITE
def test_a_damaged_flag_can_be_removed(shop: Engine) -> None:
    """Also what cannot be read can go."""
    put(shop, PutFlag(flag()))
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE flag SET document = x'ff00'")

    put(shop, RemoveFlag("checkout"))
    assert {} == stored(shop).flags


def test_a_damaged_neighbour_does_not_stop_others(shop: Engine) -> None:
    """One damaged row is its own problem."""
    put(shop, PutFlag(flag("a")), PutFlag(flag("b")))
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE flag_config SET document = '' WHERE key = 'a'")

    assert isinstance(put(shop, PutFlag(flag("c"))).events[0], FlagCreated)
    assert {"a"} == {key for key, document in stored(shop).flags.items() if document is None}


def test_a_large_commit_reads_the_whole_set(shop: Engine) -> None:
    """Many changes at once give the same as one by one."""
    put(shop, PutSegment(BETA), *(PutFlag(flag(f"f{n}")) for n in range(1200)))
    rule = {"condition": {"$ref": "beta"}, "serve": "on"}
    committed = put(shop, *(PutFlag(flag(f"f{n}", rules=[rule])) for n in range(1200)))

    assert (3, 1200, 1200) == (committed.revision, len(committed.events), counts(shop)["reference"])
    with pytest.raises(Refused, match="and 1190 more would miss it"):
        put(shop, RemoveSegment("beta"))


def test_the_audit_chain_shows_a_change(shop: Engine) -> None:
    """An entry that was changed, and one that is missing, are found."""
    put(shop, PutFlag(flag()))
    put(shop, PutFlag(flag(default="on")))
    with reading(shop) as connection:
        whole = verify_chain(connection, project="shop")
    with behind_our_back(shop) as connection:
        unlock_history(shop, connection)
        connection.execute("UPDATE audit_entry SET actor = 'eve' WHERE sequence = 4")
        connection.execute("DELETE FROM audit_entry WHERE sequence = 2")
    with reading(shop) as connection:
        broken = verify_chain(connection, project="shop")

    assert [] == whole
    assert ["entry 2 is missing, entry 3 follows", "entry 4 was changed after it was written"] == broken


def test_unknown_bucketing_cannot_be_written(shop: Engine) -> None:
    """Who gets what must not depend on a value that nobody understands."""
    with pytest.raises(INTEGRITY, match="bucketing"), behind_our_back(shop) as connection:
        connection.execute("UPDATE environment SET bucketing = 'v9'")


def counts(engine: Engine) -> dict[str, int]:
    """Rows of every table."""
    with reading(engine) as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in tables.Base.metadata.tables.items()
        }
