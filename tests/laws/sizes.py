"""Say how many examples a law is tried on: a few at every commit, many with FLAGSTAFF_LAWS=long."""

import os
from typing import Final

from hypothesis import HealthCheck, settings

LONG: Final = os.environ.get("FLAGSTAFF_LAWS") == "long"


def tried(quick: int, *, long: int) -> settings:
    """Settings of one law. What is generated is large, so hypothesis's warnings about size are left out."""
    return settings(
        max_examples=long if LONG else quick,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
