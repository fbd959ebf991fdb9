"""Time Flagstaff's compiled flags; started by the benchmark `evaluation`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from server.core.environments import Bucketing, Environment
from server.core.evaluation.snapshot import Snapshot
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.flagsets import FlagSet
from tests.benchmarks.peers.answering import Loop, answer_lines
from tests.benchmarks.samples import FLAGD_FLAGS, contexts

NOW: Final = 1_800_000_000


def main() -> None:
    """Offer each flag three ways: its compiled function, through the snapshot, and with version 3 of bucketing."""
    loops: dict[str, Loop] = {}
    snapshot, typed = _snapshot(Bucketing.V2), _snapshot(Bucketing.V3)
    for key in FLAGD_FLAGS:
        loops[key] = _compiled(snapshot, key)
        loops[f"{key}/resolve"] = _resolved(snapshot, key)
        loops[f"{key}/v3"] = _compiled(typed, key)
    answer_lines(loops, contexts())


def _snapshot(bucketing: Bucketing) -> Snapshot:
    environment = Environment("shop", "production", bucketing=bucketing)
    flags = {key: _definition(key, rule) for key, rule in FLAGD_FLAGS.items()}
    return build_snapshot(FlagSet(environment, flags, {}), revision=1)


def _definition(key: str, rule: Mapping[str, Any]) -> FlagDefinition:
    flag = Flag(key, ValueType.BOOLEAN, {"on": True, "off": False})
    return FlagDefinition(flag, FlagConfig(default="off", targeting=rule or None))


def _compiled(snapshot: Snapshot, key: str) -> Loop:
    def loop(rows: Sequence[Any], repeat: int) -> Any:
        flags, value = snapshot.flags, None
        for _ in range(repeat):
            for row in rows:
                value = flags[key].evaluate(row, NOW).value
        return value

    return loop


def _resolved(snapshot: Snapshot, key: str) -> Loop:
    def loop(rows: Sequence[Any], repeat: int) -> Any:
        resolve, value = snapshot.resolve, None
        for _ in range(repeat):
            for row in rows:
                value = resolve(key, row, NOW).value
        return value

    return loop


if __name__ == "__main__":
    main()
