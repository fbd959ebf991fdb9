"""Changes of the same field are noticed, and what refuses a commit has a kind."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from server.core.changes import Change, PutFlag, RemoveFlag, UpdateEnvironment
from server.core.edits import FlagEdit, RemoveRule, ReorderRules, SetEnabled, UpdateConfig
from server.core.errors import (
    ApprovalNeeded,
    FlagstaffError,
    InvalidDefinition,
    NotFound,
    PermissionDenied,
    Refused,
    Stale,
)
from server.core.flags import FlagConfig
from server.core.schedules.conflicts import ConflictKind, Planned, conflict_of, overlaps
from server.core.schedules.fields import _EDITS, Field, fields_of, meeting
from tests.store.definitions import flag

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _fields(*changes: Change) -> frozenset[Field]:
    return fields_of("production", changes)


def test_every_edit_says_what_it_sets() -> None:
    """One that is forgotten would meet everything."""
    assert set(get_args(FlagEdit)) == set(_EDITS)


@pytest.mark.parametrize(
    ("mine", "theirs", "met"),
    [
        (SetEnabled("a", True), SetEnabled("a", False), "flag a: enabled"),
        (SetEnabled("a", True), SetEnabled("b", True), None),
        (SetEnabled("a", True), RemoveRule("a", "beta"), None),
        (SetEnabled("a", True), RemoveFlag("a"), "flag a: enabled"),
        (ReorderRules("a", ("beta",)), RemoveRule("a", "beta"), "flag a: rules"),
        (RemoveRule("a", "beta"), RemoveRule("a", "b"), None),
        (UpdateConfig("a", FlagConfig(), ("enabled", "default")), SetEnabled("a", True), "flag a: enabled"),
        (PutFlag(flag("a")), PutFlag(flag("a")), "flag a"),
        (UpdateEnvironment(name="x"), UpdateEnvironment(critical=True), None),
        (UpdateEnvironment(name="x"), UpdateEnvironment(name="y"), "environment production: name"),
    ],
)
def test_what_two_changes_have_in_common(mine: Change, theirs: Change, met: str | None) -> None:
    """The same field, or a part of it; it makes no difference who asks."""
    found, other = meeting(_fields(mine), _fields(theirs)), meeting(_fields(theirs), _fields(mine))

    assert met == (None if found is None else found.described)
    assert (found is None) is (other is None)


def test_other_environments_are_other_fields() -> None:
    """A flag is on or off in each."""
    change = SetEnabled("a", True)

    assert meeting(fields_of("staging", [change]), fields_of("production", [change])) is None


def test_overlaps_at_the_same_instant() -> None:
    """Nobody would know which of them wins; on now and off later is usual, and only told."""
    fields = _fields(SetEnabled("a", True))
    mine = Planned("sc_1", fields, [NOW, NOW + timedelta(days=1)])
    same, later = Planned("sc_2", fields, [NOW + timedelta(days=1)]), Planned("sc_3", fields, [NOW + timedelta(days=2)])
    elsewhere = Planned("sc_4", _fields(SetEnabled("b", True)), [NOW])
    found = overlaps(mine, [mine, same, later, elsewhere])

    assert [("sc_2", True), ("sc_3", False)] == [(each.other, each.blocking) for each in found]
    assert {ConflictKind.OVERLAP} == {each.kind for each in found}
    assert "flag a: enabled" in found[0].text
    assert "2026-01-02T00:00:00Z" in found[0].text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Stale("x"), ConflictKind.VERSION_MISMATCH),
        (NotFound("x"), ConflictKind.DEPENDENCY_MISSING),
        (InvalidDefinition([]), ConflictKind.INVALID_REFERENCE),
        (PermissionDenied("x"), ConflictKind.NOT_ALLOWED),
        (ApprovalNeeded("x"), ConflictKind.APPROVAL_MISSING),
        (Refused("x"), ConflictKind.REFUSED),
    ],
)
def test_errors_have_kinds(error: FlagstaffError, kind: ConflictKind) -> None:
    """One for each."""
    assert kind is conflict_of(error).kind
