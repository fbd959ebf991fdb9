"""List every action by its name: what it is told, what its caller must be allowed, and an example.

How each is done stands in rpc/actions; a test holds the two lists against each other.
"""

from collections.abc import Mapping
from typing import Final

from server.core.access import Action
from server.core.actions.staleness import STALE_ACTIONS, STALE_SEARCHES
from server.core.actions.values import ActionType, Input, Shape
from server.core.flags import FlagKind, ValueType

SHARE_DECIMALS: Final = 3
"""Of a percentage: a share is of 100,000."""

_HERE: Final = {"project": "shop", "environment": "production"}
_FLAGS: Final = "/v1/projects/{project}/flags"
_FLAG: Final = Input(
    "flag_key", Shape.TEXT, "Flag", "The flag's key.", required=True, example="new-checkout", pick=_FLAGS
)
_RELEASE: Final = Input(
    "release_id",
    Shape.TEXT,
    "Release",
    "The release's id; without it, the one that is under way on the flag.",
    pick="/v1/projects/{project}/releases",
)
_RELEASED_FLAG: Final = Input(
    "flag_key", Shape.TEXT, "Flag", "A flag of the release, where its id is not given.", pick=_FLAGS
)
_TAGS: Final = Input("tags", Shape.TEXTS, "Tags", "All the tags that it is to have.", example=["checkout"])
_OWNER: Final = Input("owner", Shape.TEXT, "Owner", "Who looks after it.", example="team-checkout")
_DESCRIPTION: Final = Input("description", Shape.TEXT, "Description", "What it is for.")
_KIND: Final = Input(
    "kind", Shape.TEXT, "Kind", "Why it exists, which decides how long it should live.", choices=tuple(FlagKind)
)
_TEMPORARY: Final = Input("temporary", Shape.BOOLEAN, "Temporary", "Whether it should go one day.")
_LIFETIME: Final = Input(
    "expected_lifetime_days", Shape.INTEGER, "Expected lifetime", "How many days it should live.", least=1, most=36_500
)


def _of_release(name: str, title: str, says: str, permission: Action, *more: Input) -> ActionType:
    return ActionType(
        name,
        title,
        says,
        (_RELEASE, _RELEASED_FLAG, *more),
        permission,
        {**_HERE, "flag_key": "new-checkout", "reason": "error budget"}
        | {each.name: each.example for each in more if each.required},
        in_environment=None,
        # What stops something is never held up.
        is_paced=permission is not Action.KILL,
    )


_FLAG_ACTIONS: Final = (
    ActionType(
        "set_flag_state",
        "Turn a flag on or off",
        "Turns a flag on or off in one environment.",
        (_FLAG, Input("enabled", Shape.BOOLEAN, "On", "Whether it is to be on.", required=True, example=False)),
        Action.EDIT,
        {**_HERE, "flag_key": "new-checkout", "enabled": False, "reason": "support asked for it"},
    ),
    ActionType(
        "kill_flag",
        "Kill a flag",
        "Turns a flag off at once, whatever stands in the way of other changes: a freeze, approvals, a definition that "
        "is damaged. Without an environment: in all of them.",
        (
            _FLAG,
            Input(
                "incident_url",
                Shape.TEXT,
                "Incident",
                "Where the incident is followed.",
                example="https://status.example.com/incidents/812",
            ),
        ),
        Action.KILL,
        {**_HERE, "flag_key": "new-checkout", "reason": "checkout fails for everybody"},
        in_environment=None,
        is_paced=False,
    ),
    ActionType(
        "set_rollout_share",
        "Set a share",
        "Lets a share of all units in by a rule. Widening a share only adds units.",
        (
            _FLAG,
            Input(
                "percent",
                Shape.NUMBER,
                "Percent",
                f"0 to 100, with up to {SHARE_DECIMALS} decimals.",
                required=True,
                example=25,
                least=0,
                most=100,
            ),
            Input("rule_id", Shape.TEXT, "Rule", "Which rule; it may be left out where only one has a share."),
            Input(
                "variant",
                Shape.TEXT,
                "Variant",
                "What the share is served, where there is no such rule yet: one is added then.",
                pick=_FLAGS + "/{flag_key}/variants",
            ),
        ),
        Action.EDIT,
        {**_HERE, "flag_key": "new-checkout", "percent": 25, "variant": "on"},
    ),
    ActionType(
        "create_flag",
        "Create a flag",
        "Creates a flag in all environments of its project, off wherever it is not said to be on.",
        (
            Input("flag_key", Shape.TEXT, "Flag", "The new flag's key.", required=True, example="new-checkout"),
            Input(
                "variants",
                Shape.VALUES,
                "Variants",
                "Names and their values. Without them it is a boolean flag with `on` and `off`.",
                example={"on": True, "off": False},
            ),
            Input(
                "type",
                Shape.TEXT,
                "Type",
                "Of its values; found out from the variants when it is left out.",
                choices=tuple(ValueType),
            ),
            Input("default_variant", Shape.TEXT, "Default variant", "Served when the flag is on."),
            Input("off_variant", Shape.TEXT, "Off variant", "Served when it is off; else the caller's own default."),
            *(_DESCRIPTION, _OWNER, _TAGS, _KIND, _TEMPORARY, _LIFETIME),
            Input("environments", Shape.TEXTS, "Environments", "Where it is created; in all of them without it."),
            Input("enabled_in", Shape.TEXTS, "On in", "Environments where it is on from the start."),
        ),
        Action.EDIT,
        {
            "project": "shop",
            "flag_key": "new-checkout",
            "description": "The checkout in one page",
            "owner": "team-checkout",
            "tags": ["checkout"],
        },
        in_environment=False,
    ),
    ActionType(
        "update_flag",
        "Update a flag",
        "Sets fields that a flag has in all environments; what is left out stays.",
        (_FLAG, _DESCRIPTION, _OWNER, _TAGS, _KIND, _TEMPORARY, _LIFETIME),
        Action.EDIT,
        {"project": "shop", "flag_key": "new-checkout", "owner": "team-payments"},
        in_environment=False,
    ),
    ActionType(
        "archive_flag",
        "Archive a flag",
        "Turns a flag off in all environments and lets nobody edit it. Refused while other flags require it.",
        (_FLAG,),
        Action.EDIT,
        {"project": "shop", "flag_key": "new-checkout", "reason": "everybody has it"},
        in_environment=False,
    ),
    ActionType(
        "restore_flag",
        "Restore a flag",
        "Brings an archived flag back as it was.",
        (_FLAG,),
        Action.EDIT,
        {"project": "shop", "flag_key": "new-checkout"},
        in_environment=False,
    ),
    ActionType(
        "update_segment",
        "Change a segment's keys",
        "Adds keys to a segment that is a list of keys, and takes others out. What is so already is passed over.",
        (
            Input(
                "segment_key",
                Shape.TEXT,
                "Segment",
                "The segment's key.",
                required=True,
                example="beta-testers",
                pick="/v1/projects/{project}/environments/{environment}/segments",
            ),
            Input("add", Shape.TEXTS, "Add", "Keys that are to be in it.", example=["customer-1"]),
            Input("remove", Shape.TEXTS, "Remove", "Keys that are not."),
        ),
        Action.EDIT,
        {**_HERE, "segment_key": "beta-testers", "add": ["customer-1"]},
    ),
)

_RELEASE_ACTIONS: Final = (
    _of_release("start_release", "Start a release", "Begins with a release's first step.", Action.EDIT),
    _of_release(
        "pause_release",
        "Pause a release",
        "Stops a release's time. It is still watched, and taken back when something is wrong.",
        Action.KILL,
    ),
    _of_release("resume_release", "Resume a release", "Lets a paused or held release go on.", Action.EDIT),
    _of_release(
        "advance_release",
        "Advance a release",
        "Leaves a release's step for the next one, or for the one that is named, whatever its gates say.",
        Action.EDIT,
        Input("to_step", Shape.INTEGER, "To step", "Counted from 1; 0 is what was before.", least=0, most=10_000),
    ),
    _of_release(
        "roll_back_release",
        "Roll a release back",
        "Takes a release back at once: approvals, freezes and timers do not hold it up.",
        Action.KILL,
        Input(
            "to",
            Shape.TEXT,
            "To",
            "What was there before it began (anchor), an earlier step, its flags turned off, or nowhere (freeze). "
            "Without it: where its plan says.",
            choices=("anchor", "step", "off", "freeze"),
        ),
        Input("to_step", Shape.INTEGER, "To step", "For `step`: one that was served before.", least=0, most=10_000),
    ),
    _of_release(
        "answer_release",
        "Answer a release",
        "Says go or no-go in the name of somebody outside whom a release's step asks by the event `release.go_asked`.",
        Action.EDIT,
        Input(
            "name", Shape.TEXT, "Name", "Who says it; one of those that the event names.", required=True, example="ci"
        ),
        Input("go", Shape.BOOLEAN, "Go", "Whether it may go on.", required=True, example=True),
    ),
)

_OTHERS: Final = (
    ActionType(
        "schedule_change",
        "Schedule a change",
        "Has another action done at an instant, or again and again.",
        (
            Input(
                "action",
                Shape.TEXT,
                "Action",
                "Which; one that changes flags or segments.",
                required=True,
                choices=(
                    *("set_flag_state", "kill_flag", "set_rollout_share", "create_flag"),
                    *("update_flag", "archive_flag", "restore_flag"),
                ),
                example="set_flag_state",
            ),
            Input(
                "inputs",
                Shape.OBJECT,
                "Inputs",
                "The action's own, without project and environment.",
                required=True,
                example={"flag_key": "new-checkout", "enabled": True},
            ),
            Input("at", Shape.INSTANT, "At", "When, once.", example="2027-01-04T09:00:00+01:00"),
            Input("rrule", Shape.TEXT, "RRULE", "When, again and again, by RFC 5545.", example="FREQ=WEEKLY;BYDAY=MO"),
            Input("cron", Shape.TEXT, "Cron", "The same as five fields of cron.", example="0 9 * * MON-FRI"),
            Input("time_zone", Shape.TEXT, "Time zone", "Of a recurrence, by IANA.", example="Europe/Berlin"),
        ),
        Action.EDIT,
        {
            **_HERE,
            "action": "set_flag_state",
            "inputs": {"flag_key": "new-checkout", "enabled": True},
            "at": "2027-01-04T09:00:00+01:00",
            "reason": "announced for Monday",
        },
        in_environment=None,
    ),
    ActionType(
        "cancel_schedule",
        "Cancel a schedule",
        "Has a scheduled change never made.",
        (Input("schedule_id", Shape.TEXT, "Schedule", "The schedule's id.", required=True, example="sc_1a2b3c"),),
        Action.PROPOSE,
        {"project": "shop", "schedule_id": "sc_1a2b3c"},
        in_environment=False,
    ),
    ActionType(
        "decide_change_request",
        "Decide a change request",
        "Approves a change request, rejects it, or makes the change once it has its approvals.",
        (
            Input(
                "change_request_id",
                Shape.TEXT,
                "Change request",
                "The change request's id.",
                required=True,
                example="cr_1a2b3c",
            ),
            Input(
                "decision",
                Shape.TEXT,
                "Decision",
                "What is said to it; one's own is not approved.",
                required=True,
                choices=("approve", "reject", "apply"),
                example="approve",
            ),
            Input("comment", Shape.TEXT, "Comment", "Why, for its author."),
        ),
        Action.READ,
        {"project": "shop", "change_request_id": "cr_1a2b3c", "decision": "approve"},
        in_environment=False,
    ),
    ActionType(
        "send_signal",
        "Send a signal",
        "Tells the roll-back policies of an environment that something goes wrong outside, or that it is over.",
        (
            Input(
                "name",
                Shape.TEXT,
                "Signal",
                "The name that the policies listen to.",
                required=True,
                example="checkout-errors",
            ),
            Input("text", Shape.TEXT, "Text", "Why, for people.", example="5 % of payments fail"),
            Input("resolved", Shape.BOOLEAN, "Resolved", "Whether it is over."),
        ),
        Action.SIGNAL,
        {**_HERE, "name": "checkout-errors", "text": "5 % of payments fail"},
        is_paced=False,
    ),
)

_SEARCHES: Final = (
    ActionType(
        "find_flags",
        "Find flags",
        "Finds flags that fit; with an environment, whether they are on there.",
        (
            Input("flag_key", Shape.TEXT, "Flag", "The key of one flag.", pick=_FLAGS),
            Input("text", Shape.TEXT, "Text", "Is in the key or the description.", example="checkout"),
            Input("tag", Shape.TEXT, "Tag", "A tag that they have."),
            Input("owner", Shape.TEXT, "Owner", "Who looks after them."),
            Input("enabled", Shape.BOOLEAN, "On", "Whether they are on in the environment."),
            Input("limit", Shape.INTEGER, "Limit", "At most so many; 100 without it.", least=1, most=1_000),
        ),
        Action.READ,
        {**_HERE, "text": "checkout"},
        in_environment=None,
        writes=False,
    ),
    ActionType(
        "get_release",
        "Get a release",
        "Tells where a release stands.",
        (_RELEASE, _RELEASED_FLAG),
        Action.READ,
        {**_HERE, "flag_key": "new-checkout"},
        in_environment=None,
        writes=False,
    ),
    ActionType(
        "evaluate_flag",
        "Evaluate a flag",
        "Tells what a flag serves to somebody.",
        (
            _FLAG,
            Input("targeting_key", Shape.TEXT, "Targeting key", "Who it is evaluated for.", example="customer-1"),
            Input("context", Shape.VALUES, "Context", "What else is known of them.", example={"plan": "gold"}),
        ),
        Action.EVALUATE,
        {**_HERE, "flag_key": "new-checkout", "targeting_key": "customer-1"},
        writes=False,
    ),
)

CATALOGUE: Final[Mapping[str, ActionType]] = {
    each.name: each
    for each in (*_FLAG_ACTIONS, *STALE_ACTIONS, *_RELEASE_ACTIONS, *_OTHERS, *_SEARCHES, *STALE_SEARCHES)
}
"""Name -> action."""
