"""List the actions on flags that are of no more use."""

from typing import Final

from server.core.access import Action
from server.core.actions.values import ActionType, Input, Shape
from server.core.flags import FlagKind

_FLAG: Final = Input(
    "flag_key",
    Shape.TEXT,
    "Flag",
    "The flag's key.",
    required=True,
    example="new-checkout",
    pick="/v1/projects/{project}/flags",
)
_ONE: Final = {"project": "shop", "flag_key": "new-checkout"}

STALE_ACTIONS: Final = (
    ActionType(
        "snooze_stale",
        "Snooze a stale flag",
        "Has nobody hear of a flag for a while; then it is looked at like any other.",
        (
            _FLAG,
            Input("until", Shape.INSTANT, "Until", "An instant; or else `days`.", example="2027-01-31T12:00:00+01:00"),
            Input("days", Shape.INTEGER, "Days", "So many days from now; or else `until`.", least=1, most=3_649),
        ),
        Action.EDIT,
        {**_ONE, "days": 30, "reason": "until the spring sale"},
        in_environment=False,
    ),
    ActionType(
        "mark_stale",
        "Mark a flag as stale",
        "Says that a flag is stale now, whatever its terms. Its next change takes that back.",
        (_FLAG,),
        Action.EDIT,
        {**_ONE, "reason": "launched in May"},
        in_environment=False,
    ),
    ActionType(
        "clear_stale",
        "Clear a stale flag",
        "Takes back a snooze or a mark.",
        (_FLAG,),
        Action.EDIT,
        _ONE,
        in_environment=False,
    ),
    ActionType(
        "mark_permanent",
        "Mark a flag as permanent",
        "Says that a flag is to stay, so that it is never stale.",
        (_FLAG,),
        Action.EDIT,
        {**_ONE, "reason": "a kill switch"},
        in_environment=False,
    ),
)
STALE_SEARCHES: Final = (
    ActionType(
        "list_stale_flags",
        "List stale flags",
        "Lists flags that are of no more use, the longest stale first, with why and what would end it.",
        (
            Input(
                "state",
                Shape.TEXT,
                "State",
                "Only those; else all that are potentially stale or stale.",
                choices=("active", "potentially_stale", "stale", "snoozed"),
            ),
            Input("tag", Shape.TEXT, "Tag", "A tag that they have."),
            Input("owner", Shape.TEXT, "Owner", "Who looks after them."),
            Input("kind", Shape.TEXT, "Kind", "Why they exist.", choices=tuple(FlagKind)),
            Input("limit", Shape.INTEGER, "Limit", "At most so many; 100 without it.", least=1, most=1_000),
        ),
        Action.READ,
        {"project": "shop", "owner": "team-checkout"},
        in_environment=False,
        writes=False,
    ),
)
