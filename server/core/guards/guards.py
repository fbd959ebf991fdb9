"""Say what is watched, and within which limits."""

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How a guard judges what was measured."""

    THRESHOLD = "threshold"
    """The value is held against the limits."""

    RATIO_TO_CONTROL = "ratio-to-control"
    """The value is held against the limits times the control's value at the same time."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What is watched in an environment: a metric of our own, or what a provider answers to a query."""

    key: str
    environment: str

    metric: str = ""
    """Ours; then flag and variants say which observations. "" where a provider is asked."""

    flag: str = ""
    """"" for the observations of all flags."""

    variant: str = ""
    """"" for those of all variants."""

    control_variant: str = ""

    provider: str = ""
    """As the server's settings name it; "" for our own observations."""

    query: str = ""
    control_query: str = ""

    method: Method = Method.THRESHOLD
    low: float | None = None
    """What is less fails: a value, or with a control a multiple of its value."""

    high: float | None = None
    """What is more fails: a value, or with a control a multiple of its value."""

    margin: float = 0.0
    """With a control: how far beyond its multiple still passes, in units of the value."""

    sample_min: int = 0
    """Fewer observations never pass; a breach does not wait for them."""

    window_s: float = 300.0
    """Observations of this long are judged."""

    stale_after_s: float = 0.0
    """When the newest observation is older, there is no data; 0: it may be as old as the window."""

    initial_delay_s: float = 0.0
    """Judged from this long after something began that it watches."""

    interval_s: float = 10.0
    description: str = ""
