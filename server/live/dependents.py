"""Find the flags that were compiled from something, without looking at every flag of a large set.

The index stays with the snapshot that it describes; the next one gets an index in which only what was compiled anew
differs.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeAlias

from server.core.evaluation.snapshot import CompiledFlag, Snapshot

Target: TypeAlias = tuple[str, str]
"""("flag" or "segment", key), as `CompiledFlag.references` has it."""

Index: TypeAlias = dict[Target, frozenset[str]]

_QUARANTINE: Final[Target] = ("quarantine", "")
"""Where quarantined flags stand: what would heal them is not known, so every change may."""

_SLOT: Final = "live.dependents"
_NOBODY: Final[frozenset[str]] = frozenset()


def affected_by(snapshot: Snapshot, touched: Iterable[Target]) -> frozenset[str]:
    """Keys of the flags that were compiled from something touched, and of the quarantined ones."""
    index = index_of(snapshot)
    return index.get(_QUARANTINE, _NOBODY).union(*(index.get(target, _NOBODY) for target in touched))


def index_of(snapshot: Snapshot) -> Index:
    """The snapshot's index; made at first need."""
    index: Index | None = snapshot.wire.get(_SLOT)
    if index is None:
        index = snapshot.wire[_SLOT] = _moved({}, {}, snapshot.flags, keys=snapshot.flags.keys())
    return index


def carry_over(before: Snapshot, after: Snapshot, *, keys: Collection[str]) -> None:
    """Give the later snapshot its index; `keys` are all the flags in which the two differ."""
    after.wire[_SLOT] = _moved(index_of(before), before.flags, after.flags, keys=keys)


def _moved(
    index: Index, old: Mapping[str, CompiledFlag], new: Mapping[str, CompiledFlag], *, keys: Collection[str]
) -> Index:
    changed: dict[Target, set[str]] = {}
    for key in keys:
        for target in _targets(old.get(key)):
            changed.setdefault(target, set(index.get(target, _NOBODY))).discard(key)
        for target in _targets(new.get(key)):
            changed.setdefault(target, set(index.get(target, _NOBODY))).add(key)
    moved = {**index, **{target: frozenset(found) for target, found in changed.items()}}
    for target, found in changed.items():
        if not found:
            del moved[target]
    return moved


def _targets(flag: CompiledFlag | None) -> Collection[Target]:
    if flag is None:
        return ()
    return {*flag.references, _QUARANTINE} if flag.quarantine else flag.references
