"""Settings that all tests share, and the order in which several processes take them."""

from typing import Final

import hypothesis
import pytest

# No deadline: a test machine may be busy, and time is measured by scripts/measure.
hypothesis.settings.register_profile("quick", max_examples=100, deadline=None)
hypothesis.settings.register_profile("long", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile("quick")

LONGEST_FIRST: Final = ("crash", "stories", "workers", "conformance", "cli", "laws", "store")
"""Folders of files that take long; the quick ones come last, so that no process is left alone with a long one."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put files that take long first, where several processes share them. In one the order is by name."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(item.config.rootpath).parts[1]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
