"""Give a flag the configuration that it has elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.core.errors import Problem, Refused
from server.core.flags import FlagDefinition
from server.core.salts import keep_salts


@dataclass(frozen=True, slots=True)
class CopyConfig:
    """Give a flag the configuration that it has elsewhere, or create it with that.

    Salts of rules that are here stay, and another `bucketBy` for them is a problem: they decide who is in. With
    `rerandomise` both come along. What all environments share is not touched where the flag is here already.
    """

    definition: FlagDefinition
    keep_enabled: bool = False
    """Leave it on or off as it is; one that is new is off."""

    rerandomise: bool = False


def copied(stored: FlagDefinition | None, change: CopyConfig) -> tuple[FlagDefinition, Sequence[Problem]]:
    """The flag after a copy, and a problem for each attribute that its rules would hash instead of theirs.

    `stored` is what is here, None when it is not. Errors: Refused for an archived one.
    """
    given = change.definition
    if stored is None:
        return replace(given, config=replace(given.config, enabled=False)) if change.keep_enabled else given, ()
    if stored.flag.archived_at is not None:
        raise Refused(f"flag {stored.key!r} is archived and cannot be edited; restore it first")
    problems: Sequence[Problem] = ()
    if not change.rerandomise:
        # Every environment has salts of its own, so nobody means those that come along.
        given, problems = keep_salts(stored, given, minds_salts=False)
    enabled = stored.config.enabled if change.keep_enabled else given.config.enabled
    return replace(stored, config=replace(given.config, enabled=enabled)), problems
