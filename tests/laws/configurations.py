"""Build small flags and ask them: what the laws about shares and splits have in common."""

from collections.abc import Iterable
from typing import Any, Final

from server.core.environments import Bucketing, Environment
from server.core.evaluation.snapshot import Snapshot
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, Rule, Serve, Share, Split, ValueType
from server.core.flagsets import FlagSet

KEY: Final = "flag"
VARIANTS: Final = {"off": "off", "a": "a", "b": "b", "c": "c"}


def config(share: Share | None, serve: Serve, **rest: Any) -> FlagConfig:
    """One rule for everybody with a share, and "off" for the others."""
    return FlagConfig(off_variant="off", rules=(Rule(id="rule", serve=serve, share=share),), default="off", **rest)


def snapshot(*configs: FlagConfig, bucketing: Bucketing = Bucketing.V2) -> Snapshot:
    """Flags flag-0, flag-1, ... with these configurations."""
    flags = {}
    for index, each in enumerate(configs):
        flag = Flag(key=f"{KEY}-{index}", type=ValueType.STRING, variants=VARIANTS)
        flags[flag.key] = FlagDefinition(flag, each)
    return build_snapshot(FlagSet(Environment("project", "test", bucketing=bucketing), flags), revision=1)


def variants(snapshot: Snapshot, index: int, units: Iterable[Any], attribute: str = "targetingKey") -> list[str | None]:
    """What a flag serves to each unit."""
    return [snapshot.resolve(f"{KEY}-{index}", {attribute: unit}, 0).variant for unit in units]


def even(salt: str) -> Split:
    """Half a, half b."""
    return Split((("a", 1), ("b", 1)), salt)
