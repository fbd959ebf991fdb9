"""Turning a flag off works whatever else is wrong."""

import json
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from server.core.changes import PutFlag, PutSegment
from server.core.edits import AddRule, SetEnabled
from server.core.errors import InvalidDefinition
from server.core.events import FlagUpdated
from server.core.flags import Rule
from server.core.resolution import Reason, Resolution
from server.live.loader import load_snapshot
from server.store import tables
from server.store.engine import reading
from tests.store.definitions import at, behind_our_back, flag, put, segment, stored

BETA = segment("beta", {"==": [{"var": "plan"}, "beta"]})
RULE = {"id": "r", "condition": {"$ref": "beta"}, "serve": "on"}
OFF = SetEnabled("checkout", False)


@pytest.fixture
def ruled(shop: Engine) -> Engine:
    """With a flag that has a rule over a segment, an off variant, and a dependent."""
    needy = flag("needy", prerequisites=[{"flag": "checkout", "variants": ["on"]}], offVariant="off")
    put(shop, PutSegment(BETA), PutFlag(flag(rules=[RULE], offVariant="off")), PutFlag(needy))
    return shop


def resolve(shop: Engine, key: str = "checkout") -> Resolution:
    """What is served to somebody on plan beta."""
    with reading(shop) as connection:
        return load_snapshot(connection, project="shop", environment="production").resolve(key, {"plan": "beta"}, 0)


def _damage(shop: Engine, statement: str, *values: str) -> None:
    with behind_our_back(shop) as connection:
        connection.execute(statement, values)


def _references(shop: Engine) -> Sequence[object]:
    with reading(shop) as connection:
        return sorted(map(tuple, connection.execute(tables.references.select())))


def test_a_flag_with_a_broken_rule_is_turned_off(ruled: Engine) -> None:
    """Its off variant is served; what is broken stays as it is, and so do its references."""
    broken = json.dumps({"offVariant": "off", "rules": [{**RULE, "condition": {"nonsense": []}}]})
    _damage(ruled, "UPDATE flag_config SET document = ? WHERE key = 'checkout'", broken)
    before = _references(ruled)
    assert Reason.ERROR == resolve(ruled).reason
    committed = put(ruled, OFF)

    assert isinstance(committed.events[0], FlagUpdated)
    assert (Reason.DISABLED, "off") == (resolve(ruled).reason, resolve(ruled).variant)
    document = stored(ruled).flags["checkout"]
    assert document is not None
    assert {**json.loads(broken), "enabled": False} == {
        name: document[name] for name in ("offVariant", "rules", "enabled")
    }
    assert before == _references(ruled)


def test_turning_it_off_again_changes_nothing(ruled: Engine) -> None:
    """Also while it is damaged."""
    _damage(ruled, "UPDATE flag_config SET document = ? WHERE key = 'checkout'", '{"rules": 7}')
    put(ruled, OFF)

    assert put(ruled, OFF).unchanged


@pytest.mark.parametrize("text", ["", "{", "[]", '{"offVariant": "none", "rules": []}', '{"offVariant": 3}'])
def test_a_configuration_that_cannot_be_read_is_turned_off(ruled: Engine, text: str) -> None:
    """The caller's own default holds then."""
    _damage(ruled, "UPDATE flag_config SET document = ? WHERE key = 'checkout'", text)
    put(ruled, OFF)

    assert (Reason.DISABLED, None) == (resolve(ruled).reason, resolve(ruled).variant)


def test_a_flag_whose_variants_are_damaged_can_still_be_turned_off(ruled: Engine) -> None:
    """It stays in quarantine, which gives the caller's own default too."""
    _damage(ruled, "UPDATE flag SET document = ? WHERE key = 'checkout'", "{")
    put(ruled, OFF)

    assert (Reason.ERROR, None) == (resolve(ruled).reason, resolve(ruled).value)
    assert at(ruled).revision == 3


def test_a_flag_whose_segment_is_gone_is_turned_off(ruled: Engine) -> None:
    """Though nothing else about it would be accepted."""
    _damage(ruled, "DELETE FROM segment")
    with pytest.raises(InvalidDefinition, match="segment 'beta' does not exist"):
        put(ruled, AddRule("checkout", Rule("more", "on")))
    put(ruled, OFF)

    assert (Reason.DISABLED, "off") == (resolve(ruled).reason, resolve(ruled).variant)


def test_what_requires_it_follows(ruled: Engine) -> None:
    """It serves its own off variant."""
    put(ruled, OFF)

    assert "off" == resolve(ruled, "needy").variant


def test_a_damaged_flag_is_not_edited_otherwise(ruled: Engine) -> None:
    """The refusal says what is wrong, and what is possible."""
    _damage(ruled, "UPDATE flag_config SET document = ? WHERE key = 'checkout'", '{"rules": 7}')
    for change in (AddRule("checkout", Rule("more", "on")), SetEnabled("checkout", True)):
        with pytest.raises(InvalidDefinition) as refused:
            put(ruled, change)
        assert "turn the flag off" in str(refused.value) and "/flags/checkout/rules" in str(refused.value)


def test_references_follow_an_edit(ruled: Engine) -> None:
    """A rule that is added brings its segment, and one that is taken away takes it."""
    put(ruled, PutSegment(segment("vip", True)))
    put(ruled, AddRule("checkout", Rule("more", "on", {"$ref": "vip"})))

    assert {"beta", "vip"} == {row[5] for row in _references(ruled) if row[3] == "checkout"}  # type: ignore[index]
