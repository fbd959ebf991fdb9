"""The catalogue of events: complete, described, and true to its examples."""

import re
from collections.abc import Iterable

import pytest

from server.core.announcing.catalogue import CATALOGUE, data_of
from server.core.announcing.fields import Shape, data_schema
from server.core.announcing.groups import announced_name
from server.core.change_requests.machine import Happening as RequestHappening
from server.core.events import TYPES
from server.core.launch_plans.machine import Happening as PlanHappening
from server.core.schedules.machine import Happening as ScheduleHappening
from server.operations.releases.telling import TYPES as RELEASE_TYPES
from tests.announced import problems_of


@pytest.mark.parametrize("name", CATALOGUE)
def test_examples_are_as_promised(name: str) -> None:
    """What a reader builds on is what comes."""
    assert [] == problems_of(name, CATALOGUE[name].example)


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_are_those_of_standard_webhooks(name: str) -> None:
    """Words of letters, digits and underscores, with dots between; every type says when it is told."""
    assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", name)
    assert CATALOGUE[name].fires.endswith(".")
    assert all(each.says for each in CATALOGUE[name].fields)


@pytest.mark.parametrize("name", CATALOGUE)
def test_scalars_come_first(name: str) -> None:
    """Tools that map fields by hand show them in their order."""
    is_list = [each.shape in (Shape.TEXTS, Shape.CHANGES) for each in CATALOGUE[name].fields]

    assert sorted(is_list) == is_list


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("schedule.", ScheduleHappening),
        ("change-request.", RequestHappening),
        ("plan.", PlanHappening),
        ("", RELEASE_TYPES.values()),
    ],
)
def test_everything_that_is_announced_stands_in_it(prefix: str, words: Iterable[str]) -> None:
    """Of each machine every happening that is told to others."""
    assert set() == {announced_name(prefix + word) for word in words} - CATALOGUE.keys()


def test_removals_are_called_deletions() -> None:
    """All other types of changes have the name that the audit trail has, too."""
    assert {"flag.removed", "segment.removed"} == {each.type for each in TYPES} - CATALOGUE.keys()


def test_receivers_must_let_more_fields_pass() -> None:
    """Fields are added without another version."""
    schema = data_schema(CATALOGUE["flag.killed"])

    assert "additionalProperties" not in schema
    assert set(schema["required"]) == set(schema["properties"])


def test_an_unknown_type_has_no_data() -> None:
    """A row that a newer program wrote is passed on by its name alone."""
    assert {} == data_of("flag.teleported", {"key": "a"})
