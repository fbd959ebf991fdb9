"""Hold the current snapshot of every flag set; readers take no lock."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.core.errors import NotFound
from server.core.evaluation.snapshot import Snapshot
from server.core.selectors import Selector


@dataclass(frozen=True, slots=True)
class Serving:
    """Everything that is served at one moment; replaced whole, never edited."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    """By flag-set name, `<project>/<environment>`."""

    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(selector key, value) -> flag-set name, for names that imported files brought along."""

    stale_since: float | None = None
    """Seconds since 1970 when the database was last seen, while it is gone; None while it is there."""

    stale_because: str = ""
    """Why it cannot be used, while it is gone."""


class Holder:
    """The one place that evaluation reads from. `serving` is replaced by one assignment."""

    def __init__(self, default_flag_set: str) -> None:
        self.default_flag_set = default_flag_set
        self.serving = Serving()
        self.loaded = False
        """True once a database or a last-known-good file has been read, whatever was in it."""

        self.stalled = False
        """True while the event loop is too late to serve; the watchdog sets it."""

    @property
    def ready(self) -> bool:
        """Whether flags can be evaluated: something was loaded, and calls are answered in time."""
        return self.loaded and not self.stalled

    def find(self, flag_set: str) -> Snapshot:
        """The snapshot of a flag set by name; "" is the server's default.

        Errors: NotFound, naming the sets that exist.
        """
        name = flag_set or self.default_flag_set
        snapshots = self.serving.snapshots
        snapshot = snapshots.get(name)
        if snapshot is None:
            raise NotFound(_no_such_set(name, snapshots))
        return snapshot

    def select(self, selector: Selector) -> Snapshot:
        """The snapshot that a flagd selector names; an empty value is the default set. Errors: NotFound."""
        serving = self.serving
        if not selector.value:
            return self.find("")
        own_name = selector.value if selector.key == "flagSetId" else ""
        name = serving.aliases.get((selector.key, selector.value), own_name)
        snapshot = serving.snapshots.get(name)
        if snapshot is None:
            raise NotFound(_no_such_set(f"{selector.key}={selector.value}", serving.snapshots))
        return snapshot


def _no_such_set(name: str, snapshots: Mapping[str, Snapshot]) -> str:
    known = ", ".join(sorted(snapshots)[:10]) or "none yet; import one with `flagstaff import FILE`"
    return f"flag set {name!r} does not exist; this server has: {known}"
