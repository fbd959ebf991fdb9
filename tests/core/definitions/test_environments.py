"""Approval policies and freeze windows, in and out, and what is wrong with them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from server.core.access import Role
from server.core.definitions.environments import (
    read_approval_policy,
    read_freeze_windows,
    write_approval_policy,
    write_freeze_window,
)
from server.core.definitions.problems import Problems
from server.core.environments import NO_APPROVALS, ApprovalPolicy, Covered, FreezeWindow

POLICY = ApprovalPolicy(2, (Role.APPROVE, Role.ADMIN), ("oidc:ann",), (Covered.FLAG, Covered.SEGMENT))
WINDOW = FreezeWindow(
    datetime(2026, 12, 20, tzinfo=UTC), datetime(2027, 1, 2, 6, tzinfo=UTC), "Holidays", (Role.EDIT,), ("oidc:ann",)
)


def test_a_policy_survives_its_document() -> None:
    """What was written is read back the same, and fields with their default are left out."""
    problems = Problems()
    documents = [write_approval_policy(policy) for policy in (POLICY, NO_APPROVALS)]
    read = [read_approval_policy(each, problems=problems, path="") for each in documents]

    assert [POLICY, NO_APPROVALS] == read
    assert {"approvals": 0} == documents[1]
    assert [] == problems.errors


def test_a_window_survives_its_document() -> None:
    """Also when it was written in another time zone."""
    problems = Problems()
    document = write_freeze_window(WINDOW)
    elsewhere = {**document, "from": "2026-12-20T05:30:00+05:30"}

    assert "2026-12-20T00:00:00Z" == document["from"]
    assert (WINDOW, WINDOW) == read_freeze_windows([document, elsewhere], problems=problems, path="")
    assert [] == problems.errors


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ([], "/p", "expected an object"),
        ({}, "/p/approvals", "from 0 to 10, not null"),
        ({"approvals": 11}, "/p/approvals", "from 0 to 10, not 11"),
        ({"approvals": True}, "/p/approvals", "not true"),
        ({"approvals": 1, "roles": ["approve", "chief"]}, "/p/roles/1", "'chief' is not one of: approve, admin"),
        ({"approvals": 1, "roles": ["read"]}, "/p/roles/0", "not one of: approve, admin"),
        ({"approvals": 1, "actors": [""]}, "/p/actors/0", "expected 1 to 256"),
        ({"approvals": 1, "actors": [str(number) for number in range(101)]}, "/p/actors", "at most 100"),
        ({"approvals": 1, "covers": ["flags"]}, "/p/covers/0", "not one of: flag, segment, environment"),
        ({"approvals": 1, "covers": []}, "/p/covers", "at least one of"),
        ({"approvals": 1, "ownCounts": True}, "/p/ownCounts", "unknown field"),
    ],
)
def test_a_wrong_policy_is_refused(given: Any, path: str, message: str) -> None:
    """With the path of what is wrong; a role that may not approve anyway is a mistake."""
    problems = Problems()
    read = read_approval_policy(given, problems=problems, path="/p")

    assert [path] == [problem.path for problem in problems.errors]
    assert message in problems.errors[0].message
    assert NO_APPROVALS == read


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({}, "/w", "freeze windows, not an object"),
        ([1], "/w/0", "expected an object"),
        ([{"from": None}], "/w/0/from", "begins and ends"),
        ([{"from": "2026-01-01T00:00:00"}], "/w/0/from", "not an instant with its time zone"),
        ([{"until": "2026-12-20T00:00:00Z"}], "/w/0/until", "ends after it begins"),
        ([{"reason": " "}], "/w/0/reason", "says why"),
        ([{"roles": ["operate"]}], "/w/0/roles/0", "not one of: edit, admin"),
        ([{"weekly": True}], "/w/0/weekly", "unknown field"),
        ([{}] * 101, "/w", "at most 100"),
    ],
)
def test_a_wrong_window_is_refused(given: Any, path: str, message: str) -> None:
    """With the path of what is wrong; a role that may change nothing anyway is a mistake."""
    problems = Problems()
    sound = write_freeze_window(WINDOW)
    windows = [{**sound, **each} if isinstance(each, dict) else each for each in given] if given else given
    read = read_freeze_windows(windows, problems=problems, path="/w")

    assert [path] == [problem.path for problem in problems.errors]
    assert message in problems.errors[0].message
    assert () == read
