"""Remember since when each snapshot is served, and how often others came."""

from collections.abc import Mapping

from server.core.evaluation.snapshot import Snapshot


class Freshness:
    """Written by the thread that follows the database; readers see one whole mapping or the next."""

    def __init__(self) -> None:
        self.loaded_at: Mapping[str, float] = {}
        """By flag set. Units: seconds since 1970, UTC."""

        self.reload_count = 0
        self._known: Mapping[str, Snapshot] = {}

    def note(self, snapshots: Mapping[str, Snapshot], *, now: float) -> None:
        """Take note of what is served now."""
        before, known = self.loaded_at, self._known
        if before and snapshots.keys() == known.keys() and all(known[name] is each for name, each in snapshots.items()):
            return
        self.loaded_at = {
            name: before[name] if known.get(name) is snapshot else now for name, snapshot in snapshots.items()
        }
        self._known = snapshots
        self.reload_count += 1
