"""Name what happened to a flag or a segment as others are told of it, finer than the audit trail has it."""

from dataclasses import replace
from typing import Final

from server.core.events import Event, FlagRemoved, FlagUpdated, SegmentRemoved
from server.core.flags import FlagConfig, FlagDefinition
from server.core.policies import is_kill

DISABLED: Final = "flag.disabled"
KILLED: Final = "flag.killed"


def announced_type(event: Event) -> str:
    """The public type of an event: of a flag that was updated, by the most telling of what changed.

    A kill and a switch look alike here: who asked for it makes the difference, see `killed`.
    """
    match event:
        case FlagUpdated():
            return _updated(event)
        case FlagRemoved():
            return "flag.deleted"
        case SegmentRemoved():
            return "segment.deleted"
    return event.type


def killed(type_: str) -> str:
    """The same of somebody who asked for a kill."""
    return KILLED if type_ == DISABLED else type_


def _updated(event: FlagUpdated) -> str:
    if is_kill(event):
        return DISABLED
    before, after = event.before, event.after
    if (before.flag.archived_at is None) != (after.flag.archived_at is None):
        return "flag.restored" if after.flag.archived_at is None else "flag.archived"
    if before.config.enabled != after.config.enabled:
        return "flag.enabled" if after.config.enabled else DISABLED
    if repr(before.flag.variants) != repr(after.flag.variants):
        return "flag.variants_changed"
    if _targeting(before) != _targeting(after):
        return "flag.targeting_changed"
    if before.config.prerequisites != after.config.prerequisites:
        return "flag.dependency_changed"
    return "flag.updated"


def _targeting(definition: FlagDefinition) -> str:
    """Who gets what, as text: it tells 1 from true, which `==` does not."""
    config: FlagConfig = replace(definition.config, enabled=True, prerequisites=(), lenient=False)
    return repr(config)
