"""Make contexts to simulate with, where none are given."""

from collections.abc import Mapping
from typing import Any

from server.core.flags import TARGETING_KEY


def generated(count: int, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Contexts of units `user-1` to `user-<count>`, which all have these attributes too."""
    return [{**attributes, TARGETING_KEY: f"user-{number}"} for number in range(1, count + 1)]
