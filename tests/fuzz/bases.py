"""Good definitions that mutations begin from: the shop of the samples, and sets that the strategies generate."""

import json
from functools import cache
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from server.core.definitions.documents import read_document, write_document
from server.core.flagsets import FlagSet
from server.operations.samples import read_samples
from tests import strategies

PROJECT: Final = "default"
ENVIRONMENT: Final = "production"
SEED: Final = 20_260_101


@cache
def shop() -> FlagSet:
    """The shop's flags and segments."""
    return read_samples(project=PROJECT, environment=ENVIRONMENT).flag_set


@cache
def documents(count: int = 24) -> tuple[str, ...]:
    """Documents of ours, as text: always the same ones."""
    drawn: list[FlagSet] = []

    @hypothesis.seed(SEED)
    @settings(
        max_examples=count * 2,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategies.flag_sets())
    def collect(flag_set: FlagSet) -> None:
        if flag_set.flags:
            drawn.append(flag_set)

    collect()
    written = [write_document(flag_set) for flag_set in (shop(), *drawn)]
    return tuple(json.dumps(document, ensure_ascii=False) for document in written)[:count]


def read(document: dict[str, Any]) -> FlagSet:
    """A document's flag set."""
    return read_document(document, project=PROJECT, environment=ENVIRONMENT).flag_set
