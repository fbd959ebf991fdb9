"""Give a flag the configuration that it has elsewhere."""

from dataclasses import dataclass, replace

from server.core.errors import Refused
from server.core.flags import FlagDefinition
from server.core.salts import keep_salts


@dataclass(frozen=True, slots=True)
class CopyConfig:
    """Give a flag the configuration that it has elsewhere, or create it with that.

    Salts of rules that are here stay. What all environments share is not touched where the flag is here already.
    """

    definition: FlagDefinition
    keep_enabled: bool = False
    """Leave it on or off as it is; one that is new is off."""


def copied(stored: FlagDefinition | None, change: CopyConfig) -> FlagDefinition:
    """The flag after a copy; `stored` is what is here, None when it is not. Errors: Refused for an archived one."""
    given = change.definition
    if stored is None:
        return replace(given, config=replace(given.config, enabled=False)) if change.keep_enabled else given
    if stored.flag.archived_at is not None:
        raise Refused(f"flag {stored.key!r} is archived and cannot be edited; restore it first")
    # Whatever salts it brings, those that are here stay, which is no problem of a copy.
    config = keep_salts(stored, given)[0].config
    enabled = stored.config.enabled if change.keep_enabled else config.enabled
    return replace(stored, config=replace(config, enabled=enabled))
