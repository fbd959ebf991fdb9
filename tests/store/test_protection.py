"""Approval policy and freeze windows are kept with their environment."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from server.core.changes import UpdateEnvironment
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.core.errors import InvalidDefinition
from server.store.engine import reading
from server.store.mapping import CLOSED
from server.store.revisions import load_documents_at
from tests.store.definitions import NOW, at, behind_our_back, put

POLICY = ApprovalPolicy(2, actors=("oidc:ann",))
WINDOW = FreezeWindow(NOW, NOW + timedelta(days=1), "Holidays")


def test_protection_is_kept_with_its_environment(shop: Engine) -> None:
    """Now and in every revision; a change of something else leaves it as it is."""
    put(shop, UpdateEnvironment(approval_policy=POLICY, freeze_windows=(WINDOW,)))
    put(shop, UpdateEnvironment(name="Live"))
    put(shop, UpdateEnvironment(approval_policy=ApprovalPolicy(), freeze_windows=()))

    with reading(shop) as connection:
        past = [
            load_documents_at(connection, project="shop", environment="production", revision=revision).environment
            for revision in (1, 2, 3, 4)
        ]
    expected = [(ApprovalPolicy(), ()), (POLICY, (WINDOW,)), (POLICY, (WINDOW,)), (ApprovalPolicy(), ())]
    assert expected == [(each.approval_policy, each.freeze_windows) for each in past]
    assert past[-1] == at(shop).environment


def test_what_is_wrong_with_it_is_told_with_its_path(shop: Engine) -> None:
    """Whoever made the values."""
    change = UpdateEnvironment(
        approval_policy=replace(POLICY, approvals=-1), freeze_windows=(WINDOW, replace(WINDOW, ends_at=NOW))
    )
    with pytest.raises(InvalidDefinition) as caught:
        put(shop, change)

    assert ["/approvalPolicy/approvals", "/freezeWindows/1/until"] == [each.path for each in caught.value.problems]


@pytest.mark.parametrize("damage", ["no JSON", '{"approvalPolicy": {"approvals": "many"}}', 7])
def test_damaged_protection_closes_its_environment(shop: Engine, damage: str | int) -> None:
    """Evaluation goes on, and nobody changes anything by accident until it was set anew."""
    with behind_our_back(shop) as connection:
        connection.execute("UPDATE environment SET protection_document = ? WHERE key = 'production'", (damage,))

    assert ((CLOSED,), ()) == (at(shop).environment.freeze_windows, at(shop, "staging").environment.freeze_windows)
    put(shop, UpdateEnvironment(approval_policy=POLICY, freeze_windows=()))
    assert (POLICY, ()) == (at(shop).environment.approval_policy, at(shop).environment.freeze_windows)
