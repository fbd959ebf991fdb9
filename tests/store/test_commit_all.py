"""Several environments in one commit, versions of things, permits, dry runs."""

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from server.core.changes import Change, CreateEnvironment, PutFlag, RemoveFlag
from server.core.environments import Environment
from server.core.errors import Conflict, NotFound, Refused, Stale
from server.core.events import Event
from server.store.commit import Committed, Part, commit_all
from server.store.engine import reading
from server.store.environments import list_environments
from server.store.saving import Cause
from server.store.versions import ABSENT, read_versions
from tests.store.definitions import NOW, flag


def _cause(request_id: str = "") -> Cause:
    return Cause("shop", "ana", NOW, "", "", request_id)


def _make(engine: Engine, *, changes: Sequence[Change] = (), request_id: str = "") -> dict[str, Committed]:
    parts = [
        Part(name, [CreateEnvironment(Environment("shop", name)), *changes], expected_revision=0)
        for name in ("canary", "testing")
    ]
    return commit_all(engine, parts=parts, why=_cause(request_id))


def _names(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [each.environment.key for each in list_environments(connection)]


def test_environments_change_together(shop: Engine) -> None:
    """Each environment gets its own revision, in one transaction."""
    committed = _make(shop, changes=[PutFlag(flag("new"))])

    assert {"canary": 1, "testing": 1} == {name: each.revision for name, each in committed.items()}


def test_one_refusal_takes_all_back(shop: Engine) -> None:
    """What the last part is refused for undoes the first."""
    before = _names(shop)
    parts = [
        Part("canary", [CreateEnvironment(Environment("shop", "canary"))]),
        Part("testing", [RemoveFlag("none")]),
    ]
    with pytest.raises(NotFound, match="testing"):
        commit_all(shop, parts=parts, why=_cause())

    assert before == _names(shop)


def test_the_same_request_is_answered_alike(shop: Engine) -> None:
    """A repeated commit of several environments changes nothing and tells the first answer."""
    first = _make(shop, changes=[PutFlag(flag("new"))], request_id="r1")
    again = _make(shop, changes=[PutFlag(flag("new"))], request_id="r1")

    assert {name: (each.revision, each.events) for name, each in first.items()} == {
        name: (each.revision, each.events) for name, each in again.items()
    }


def test_a_dry_run_tells_and_keeps_nothing(shop: Engine) -> None:
    """Everything is checked and told, and nothing is there afterwards."""
    before = _names(shop)
    parts = [Part("canary", [CreateEnvironment(Environment("shop", "canary")), PutFlag(flag("new"))])]
    committed = commit_all(shop, parts=parts, why=_cause("r2"), dry_run=True)

    assert ["environment.created", "flag.created"] == [event.type for event in committed["canary"].events]
    assert before == _names(shop)


def test_a_version_is_the_last_revision_that_touched_a_thing(shop: Engine) -> None:
    """A removed thing has none; a stale reader is refused, and so is one who expects nothing to be there."""
    _make(shop, changes=[PutFlag(flag("one")), PutFlag(flag("two"))])
    commit_all(shop, parts=[Part("canary", [RemoveFlag("one")])], why=_cause())
    with reading(shop) as connection:
        versions = read_versions(connection, project="shop", environment="canary", kind="flag")

    assert {"two": 1} == versions
    two = PutFlag(flag("two", enabled=False))
    for version, error in ((2, Stale), (ABSENT, Conflict)):
        with pytest.raises(error, match="'two'"):
            commit_all(shop, parts=[Part("canary", [two], expected_versions={("flag", "two"): version})], why=_cause())
    with pytest.raises(Stale, match="does not exist any more"):
        commit_all(shop, parts=[Part("canary", [two], expected_versions={("flag", "one"): 1})], why=_cause())
    done = commit_all(shop, parts=[Part("canary", [two], expected_versions={("flag", "two"): 1})], why=_cause())

    assert 3 == done["canary"].revision


def test_conditions_are_of_what_was_before_the_commit(shop: Engine) -> None:
    """What an earlier part does to a later one's environment is not somebody else's change; that of others is."""
    _make(shop, changes=[PutFlag(flag())])
    owned = PutFlag(flag(owner="web"))
    parts = [Part(name, [owned], 1, {("flag", "checkout"): 1}) for name in ("canary", "testing")]
    commit_all(shop, parts=parts, why=_cause())

    with reading(shop) as connection:
        assert {"checkout": 2} == read_versions(connection, project="shop", environment="testing", kind="flag")
    with pytest.raises(Stale, match="'shop/testing' is at revision 2, expected 1"):
        commit_all(shop, parts=[Part("canary", [owned]), parts[1]], why=_cause())


def test_a_permit_sees_what_would_happen_and_may_refuse(shop: Engine) -> None:
    """It is asked within the commit; what it raises undoes everything."""
    asked: list[str] = []

    def permit(environment: Environment, events: Sequence[Event]) -> None:
        asked.extend(f"{environment.key} {event.type}" for event in events)
        raise Refused("frozen until Monday")

    before = _names(shop)
    with pytest.raises(Refused, match="Monday"):
        commit_all(
            shop,
            parts=[Part("canary", [CreateEnvironment(Environment("shop", "canary"))])],
            why=_cause(),
            permit=permit,
        )

    assert (["canary environment.created"], before) == (asked, _names(shop))
