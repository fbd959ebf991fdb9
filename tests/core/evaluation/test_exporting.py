"""A flag set's text for in-process clients, and the bytes that are counted for it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.errors import TooLarge
from server.core.evaluation.difference import FlagChange, changed_flags
from server.core.evaluation.exporting import check_sync_bytes, flag_bytes, join_flags
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.core.limits import SYNC_BYTES_MAX

ENVIRONMENT = Environment("shop", "production", metadata={"team": "web"})
SCHEMA_FIELDS = {"state", "variants", "defaultVariant", "targeting", "metadata"}


def flag(key: str, **fields: Any) -> FlagDefinition:
    """A sound flag with every field that flagd does not know."""
    data = {"variants": {"on": True, "off": False}, "default": "off", "description": "d", "owner": "o", "tags": ["t"]}
    definition = read_flag(key, {**data, **fields}, problems=Problems(), path="")
    assert definition is not None
    return definition


FLAGS = {
    "plain": flag("plain"),
    "schl\u00fcssel \U0001f511": flag("schl\u00fcssel \U0001f511", metadata={"team": "m\u00fcnchen"}),
    "none": flag("none", default=None),
    "split": flag("split", rules=[{"id": "s", "serve": {"weights": {"on": 1, "off": 1}}}]),
    "disabled": flag("disabled", enabled=False),
    "archived": flag("archived", archivedAt="2026-01-01T00:00:00Z"),
}


def text_of(flags: dict[str, FlagDefinition]) -> bytes:
    """What would be sent."""
    compiled = build_snapshot(FlagSet(ENVIRONMENT, flags), revision=1).flags
    return join_flags((key, each.exported) for key, each in compiled.items())


def test_only_what_the_schema_knows_is_sent() -> None:
    """One client refuses the whole text for one field more."""
    flags = json.loads(text_of(FLAGS))["flags"]

    assert set(FLAGS) == set(flags)
    assert "DISABLED" == flags["archived"]["state"]
    assert SCHEMA_FIELDS == {field for each in flags.values() for field in each}


def test_the_flag_sets_metadata_is_merged_in() -> None:
    """Under the flag's own: there is no other place for it in the text."""
    flags = json.loads(text_of(FLAGS))["flags"]

    assert {"team": "web"} == flags["plain"]["metadata"]
    assert {"team": "m\u00fcnchen"} == flags["schl\u00fcssel \U0001f511"]["metadata"]


def test_no_text_is_kept_where_sync_is_off() -> None:
    """A large set would hold megabytes that nobody is sent; what changed is told all the same."""
    before, after = (
        build_snapshot(FlagSet(replace(ENVIRONMENT, sync=False), FLAGS | {"plain": one}), revision=1)
        for one in (FLAGS["plain"], flag("plain", default="on"))
    )

    assert {b""} == {each.exported for each in before.flags.values()}
    assert {"plain": FlagChange.UPDATE} == changed_flags(before, after)


@pytest.mark.parametrize("keys", [list(FLAGS), ["plain"], ["schl\u00fcssel \U0001f511", "split"]])
def test_bytes_add_up(keys: list[str]) -> None:
    """The flags' bytes and the eleven around them are the text's length."""
    flag_set = FlagSet(ENVIRONMENT, {key: FLAGS[key] for key in keys})

    assert len(text_of({key: FLAGS[key] for key in keys})) == 11 + sum(flag_bytes(flag_set, key) for key in keys)


def test_the_bound_is_met_exactly() -> None:
    """A text of SYNC_BYTES_MAX bytes is accepted, and one byte more is not."""
    check_sync_bytes(ENVIRONMENT, SYNC_BYTES_MAX - 11)

    with pytest.raises(TooLarge, match=f"'shop/production' takes {SYNC_BYTES_MAX + 1} bytes"):
        check_sync_bytes(ENVIRONMENT, SYNC_BYTES_MAX - 10)
