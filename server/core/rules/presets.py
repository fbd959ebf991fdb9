"""Offer rules to begin with, in which only something has to be filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from server.core.errors import InvalidRequest, NotFound
from server.core.rules.rules import Act, Definition, Deliver, Wanted


@dataclass(frozen=True, slots=True)
class Preset:
    """A rule that many want."""

    key: str
    says: str
    definition: Definition
    """A delivery's endpoint is to be filled in."""


PRESETS: Final[Mapping[str, Preset]] = {
    each.key: each
    for each in (
        Preset(
            "stale-notice",
            "Tells an endpoint of flags that are of no more use, so that their owners hear of it.",
            Definition(
                "Tell of stale flags", Wanted(("flag.potentially_stale", "flag.stale")), Deliver(""), per_minute=600
            ),
        ),
        Preset(
            "kill-notice",
            "Tells an endpoint of every flag that is killed, whoever does it.",
            Definition("Tell of kills", Wanted(("flag.killed",)), Deliver(""), per_minute=600),
        ),
        Preset(
            "kill-on-breach",
            "Kills a flag when a guard that watches it begins to fail. A roll-back policy does so with more care.",
            Definition(
                "Kill what breaches its guard",
                Wanted(("guard.breached",), expression="data.flag_key != ''"),
                Act(
                    "kill_flag",
                    {"flag_key": "{{ data.flag_key }}"},
                    "guard {{ data.guard_id }}: {{ data.metric }} is {{ data.value }}",
                ),
            ),
        ),
    )
}
"""Key -> preset."""


def from_preset(key: str, endpoint_id: str) -> Definition:
    """A preset with its endpoint. Errors: NotFound; InvalidRequest where an endpoint is missing, or of no use."""
    preset = PRESETS.get(key)
    if preset is None:
        raise NotFound(f"there is no preset {key[:80]!r}; there are: {', '.join(PRESETS)}")
    if not isinstance(preset.definition.then, Deliver):
        if endpoint_id:
            raise InvalidRequest(f"preset {key} has an action done and delivers nothing; leave the endpoint out")
        return preset.definition
    if not endpoint_id:
        raise InvalidRequest(f"preset {key} needs an endpoint to deliver to")
    return replace(preset.definition, then=Deliver(endpoint_id))
