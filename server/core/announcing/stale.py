"""Give what is found out and said of stale flags the shape that others get."""

from collections.abc import Iterable, Mapping
from typing import Final

from server.core.announcing.fields import EventType, Shape
from server.core.announcing.groups import Group, types_of
from server.core.json import Json

_TEXT, _INTEGER, _INSTANT, _TEXTS, _BOOLEAN = Shape.TEXT, Shape.INTEGER, Shape.INSTANT, Shape.TEXTS, Shape.BOOLEAN
_EXAMPLE: Final[Mapping[str, Json]] = {
    "flag_name": "The new checkout",
    "flag_type": "boolean",
    "flag_kind": "release",
    "owner": "web",
    "temporary": True,
    "state": "stale",
    "previous_state": "potentially_stale",
    "rule": "one_variant",
    "days_since_change": 44,
    "age_days": 71,
    "lifetime_days": 40,
    "one_variant": True,
    "served_variant": "on",
    "days_stale": 0,
    "suggested_action": "put what 'on' does into the code without asking for the flag, and archive it",
    "reason": "everybody gets variant 'on', and nobody has changed it for 44 days",
    "tags": ["checkout"],
    "evidence": ["everybody gets variant 'on', and nobody has changed it for 44 days"],
}

STALENESS: Final = Group(
    "flag.",
    {
        "potentially_stale": "A temporary flag looks as if it were of no more use; its grace begins.",
        "stale": "It is of no more use: its grace is over, or somebody said so.",
        "stale_cleared": "It counts as in use again: it was changed, snoozed, archived, or somebody said so.",
    },
    (
        ("flag_key", "key", _TEXT, "the flag"),
        ("flag_name", "flag_name", _TEXT, "the first line of its description, or else its key"),
        ("flag_type", "flag_type", _TEXT, "boolean, string, integer, float or object"),
        ("flag_kind", "flag_kind", _TEXT, "release, experiment, operational or permission"),
        ("owner", "owner", _TEXT, "whose it is"),
        ("temporary", "temporary", _BOOLEAN, "whether it is to go away again"),
        ("state", "state", _TEXT, "active, potentially_stale, stale or snoozed"),
        ("previous_state", "previous_state", _TEXT, "what it was before"),
        ("rule", "rule", _TEXT, "why: lifetime, one_variant or marked; empty when it is in use"),
        ("days_since_change", "days_since_change", _INTEGER, "since when nobody has changed it, in any environment"),
        ("age_days", "age_days", _INTEGER, "how old it is"),
        ("lifetime_days", "lifetime_days", _INTEGER, "how long it was expected to live"),
        ("expires_at", "expires_at", _INSTANT, "when that was over, or will be"),
        ("one_variant", "one_variant", _BOOLEAN, "whether everybody gets the same"),
        ("served_variant", "served_variant", _TEXT, "what that is; null for the caller's own default"),
        ("since", "since", _INSTANT, "since when the rule holds"),
        ("stale_at", "stale_at", _INSTANT, "when its grace is over, or was"),
        ("days_stale", "days_stale", _INTEGER, "for how long it has been stale"),
        ("suggested_action", "suggested_action", _TEXT, "what would end it"),
        ("by", "by", _TEXT, "what cleared it: activity, snooze, archived, permanent, kind, held, settings, person"),
        ("snoozed_until", "snoozed_until", _INSTANT, "until when nobody wants to hear of it"),
        ("tags", "tags", _TEXTS, "its tags"),
        ("evidence", "evidence", _TEXTS, "a sentence for each rule that holds"),
    ),
    frozenset({"lifetime_days", "expires_at", "served_variant", "since", "stale_at", "days_stale", "snoozed_until"}),
    _EXAMPLE,
)
STALE_POLICY: Final = Group(
    "staleness_policy.",
    {"updated": "Flags of the project become stale by other terms."},
    (
        ("quiet_days", "quiet_days", _INTEGER, "days without a change after which a lifetime that is over counts"),
        ("unchanged_days", "unchanged_days", _INTEGER, "days without a change after which one variant for all counts"),
        ("grace_days", "grace_days", _INTEGER, "days from the first notice until a flag is stale"),
        ("lifetimes", "lifetimes", _TEXTS, "`<kind>: <days>`"),
    ),
    frozenset(),
    {"quiet_days": 7, "unchanged_days": 30, "grace_days": 14, "reason": "", "lifetimes": ["release: 40 days"]},
)


def stale_types() -> Iterable[tuple[EventType, Group]]:
    """Each type with the group that knows its data."""
    return types_of((STALENESS, STALE_POLICY))
