"""Generate instants around one moment, and what begins, grows and ends at them."""

from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from server.core.flags import ShareStep

TIMESTAMP: Final = 1_750_000_000
"""Rules compare `$flagd.timestamp` with this and its neighbours."""

instants = st.sampled_from([datetime.fromtimestamp(TIMESTAMP + seconds, UTC) for seconds in (-60, -1, 0, 1, 60)])


def share_steps(parts: SearchStrategy[int]) -> SearchStrategy[tuple[ShareStep, ...]]:
    """Steps around TIMESTAMP, in the order of their instants."""
    steps = st.lists(st.builds(ShareStep, instants, parts), max_size=3, unique_by=lambda step: step.at)
    return steps.map(lambda each: tuple(sorted(each, key=lambda step: step.at)))


windows: SearchStrategy[tuple[datetime | None, datetime | None]] = st.tuples(
    st.one_of(st.none(), st.none(), instants), st.one_of(st.none(), st.none(), instants)
).filter(lambda window: window[0] is None or window[1] is None or window[0] < window[1])
