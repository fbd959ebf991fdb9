"""Give what happened to change requests, schedules, releases, plans, guards and metrics the shape that others get."""

from collections.abc import Iterable
from typing import Final

from server.core.announcing.fields import EventType, Shape
from server.core.announcing.groups import Group, types_of

_TEXT, _INTEGER, _NUMBER, _INSTANT, _TEXTS = Shape.TEXT, Shape.INTEGER, Shape.NUMBER, Shape.INSTANT, Shape.TEXTS
_BOOLEAN: Final = Shape.BOOLEAN
_REVISIONS: Final = ("revisions", "revisions", _TEXTS, "`<environment>: <revision>` of what was changed by it")

CHANGE_REQUESTS: Final = Group(
    "change-request.",
    {
        "opened": "A change was proposed, or was asked for where others must agree.",
        "commented": "Somebody said something about it.",
        "approved": "Somebody agreed.",
        "completed": "Somebody agreed, and with it there are enough approvals.",
        "rejected": "Somebody refused.",
        "revised": "It has other content; approvals are dropped.",
        "withdrawn": "Its author took it back.",
        "outdated": "What it would change was changed; approvals are dropped.",
        "lacking": "Approvals that it had do not suffice any more.",
        "scheduled": "It is to be applied at an instant.",
        "unscheduled": "It is not to be applied by itself any more.",
        "failed": "It was due and could not be applied.",
        "applied": "Its changes were made.",
        "expired": "Nobody finished it in time.",
    },
    (
        ("change_request_id", "key", _TEXT, "the change request"),
        ("title", "title", _TEXT, "what it is called"),
        ("state", "state", _TEXT, "its state after this"),
        ("apply_at", "applyAt", _INSTANT, "when it is to be applied"),
        ("content_number", "contentNumber", _INTEGER, "counts the contents that it had"),
        ("environments", "environments", _TEXTS, "where it would change something"),
        ("approvals", "approvals", _TEXTS, "who has agreed so far"),
        _REVISIONS,
    ),
    frozenset({"apply_at"}),
)
SCHEDULES: Final = Group(
    "schedule.",
    {
        "created": "A change is to be made at a time.",
        "updated": "It has other content, or another title; approvals are dropped.",
        "rescheduled": "It has another timing; approvals are dropped.",
        "approved": "Somebody agreed.",
        "cancelled": "It is not to happen any more.",
        "due_soon": "Its instant comes near.",
        "executed": "Its change was made.",
        "conflicted": "Its instant came, and something stood in its way.",
        "skipped": "An instant passed while nobody was there, and was left out.",
        "failed": "An instant passed while nobody was there, and that stops the schedule.",
    },
    (
        ("schedule_id", "key", _TEXT, "the schedule"),
        ("title", "title", _TEXT, "what it is called"),
        ("state", "state", _TEXT, "its state after this"),
        ("due_at", "instant", _INSTANT, "the instant that this is about"),
        ("applied_at", "appliedAt", _INSTANT, "when its change was made"),
        ("lag_ms", "lagMs", _INTEGER, "by how much it was late"),
        ("next_at", "dueAt", _INSTANT, "when it is due next"),
        ("will_retry", "willRetry", _BOOLEAN, "whether there is a further instant"),
        ("run_count", "runCount", _INTEGER, "how often it has been executed"),
        ("content_number", "contentNumber", _INTEGER, "counts the contents that it had"),
        ("conflict", "conflict", _TEXT, "what kind of thing stood in its way"),
        ("environments", "environments", _TEXTS, "where it changes something"),
        ("conflicts", "conflicts", _TEXTS, "all that stood in its way"),
        ("lines", "changes", _TEXTS, "what it would change, line by line"),
        _REVISIONS,
    ),
    frozenset({"due_at", "applied_at", "lag_ms", "next_at"}),
)
RELEASES: Final = Group(
    "release.",
    {
        "created": "A release was planned.",
        "updated": "It has other steps.",
        "awaiting_start": "It waits for somebody to agree to its start.",
        "approved": "Somebody agreed.",
        "started": "It began.",
        "warned": "Something is not as it should be, and it goes on.",
        "go_asked": "A gate asks somebody outside: answer go or no-go.",
        "answered": "Somebody outside said go, or no-go.",
        "awaiting_approval": "All other gates of a step hold: it waits for somebody to agree.",
        "approval_withdrawn": "A gate does not hold any more, so nobody is asked now.",
        "step_advanced": "The next step was made.",
        "step_jumped": "Somebody went to another step.",
        "paused": "It stands still until somebody resumes it.",
        "resumed": "It goes on.",
        "held": "It stays where it is, by its own policy or by somebody's wish.",
        "blocked": "A step could not be made.",
        "deadline_missed": "It is not complete, and should be.",
        "rolled_back": "What it changed was taken back.",
        "restarted": "It begins anew.",
        "completed": "Its last step stands.",
        "aborted": "It is over, and what it did stays.",
    },
    (
        ("release_id", "key", _TEXT, "the release"),
        ("name", "name", _TEXT, "what it is called"),
        ("owner", "owner", _TEXT, "in whose name it goes on"),
        ("state", "state", _TEXT, "its state after this"),
        ("release_kind", "releaseKind", _TEXT, "progressive, canary or blue-green"),
        ("flag_key", "flagKey", _TEXT, "the flag that it moves; empty where it moves several"),
        ("from_step", "fromStep", _INTEGER, "the step before; 0 before the first"),
        ("step", "toStep", _INTEGER, "the step now"),
        ("steps_total", "stepCount", _INTEGER, "how many steps there are"),
        ("step_name", "stepName", _TEXT, "what the step is called"),
        ("from_percent", "fromPercent", _NUMBER, "the largest share before"),
        ("to_percent", "toPercent", _NUMBER, "the largest share now"),
        ("next_at", "nextAt", _INSTANT, "when it is looked at again"),
        ("projected_end", "projectedEnd", _INSTANT, "when it is complete if nothing holds it up"),
        ("duration_s", "durationS", _INTEGER, "how many seconds since it began"),
        ("guard_id", "guard", _TEXT, "the guard whose word led to it; empty for none"),
        ("metric", "metric", _TEXT, "what that guard watches: a metric's key, or a query"),
        ("value", "value", _NUMBER, "what it measured"),
        ("threshold", "threshold", _NUMBER, "the limit that this was held against"),
        ("answer_by", "answerBy", _INSTANT, "when somebody is asked: from when on silence is an answer"),
        ("text", "text", _TEXT, "what happened, in a sentence"),
        (
            "answer_with",
            "answerWith",
            _TEXT,
            "the action that answers, by a name: go, or no-go",
        ),
        ("asked", "asked", _TEXTS, "who is asked, by the names that an answer takes"),
        ("on_silence", "onSilence", _TEXTS, "`<name>: <what comes of silence>, at <instant>` of each that is asked"),
        ("flags", "flags", _TEXTS, "`<environment>/<flag>` that it moves"),
        ("evidence", "evidence", _TEXTS, "what each gate said"),
        ("steps", "steps", _TEXTS, "what each step does; when it is planned"),
        _REVISIONS,
    ),
    frozenset(
        {"from_percent", "to_percent", "next_at", "projected_end", "duration_s"} | {"value", "threshold", "answer_by"}
    ),
)
PLANS: Final = Group(
    "plan.",
    {
        "created": "A launch was planned.",
        "updated": "It asks for something else; approvals and answers are dropped.",
        "approved": "Somebody agreed.",
        "answered_go": "Somebody said go.",
        "answered_no_go": "Somebody said no: what is under way is held.",
        "shifted": "It has another time.",
        "started": "Its items are made from now on.",
        "held": "It stands still.",
        "resumed": "It goes on.",
        "cancelled": "It is not to happen any more.",
        "due_soon": "An item comes near.",
        "executed": "The items of an instant were made.",
        "skipped": "Items were left out.",
        "missed": "It was too late for items; the plan is held.",
        "completed": "Nothing is left to do.",
        "conflicted": "Something stood in the way of its items; the plan is held.",
    },
    (
        ("plan_id", "key", _TEXT, "the launch plan"),
        ("name", "name", _TEXT, "what it is called"),
        ("owner", "owner", _TEXT, "whose it is"),
        ("state", "state", _TEXT, "its state after this"),
        ("launch_at", "launchAt", _INSTANT, "T-0"),
        ("zone", "zone", _TEXT, "its time zone"),
        ("next_at", "nextAt", _INSTANT, "when something is due next"),
        ("due_at", "dueAt", _INSTANT, "the instant that this is about"),
        ("applied_at", "appliedAt", _INSTANT, "when its items were made"),
        ("lag_ms", "lagMs", _INTEGER, "by how much it was late"),
        ("check", "check", _TEXT, "the go/no-go check that this is about"),
        ("text", "text", _TEXT, "what happened, in a sentence"),
        ("content_number", "contentNumber", _INTEGER, "counts the contents that it had"),
        ("items", "items", _TEXTS, "the items that this is about"),
        ("environments", "environments", _TEXTS, "where they change something"),
        _REVISIONS,
    ),
    frozenset({"next_at", "due_at", "applied_at", "lag_ms"}),
)
_MEASURED: Final = (
    ("verdict", "verdict", _TEXT, "pass, fail, inconclusive, no_data or error"),
    ("value", "value", _NUMBER, "what was measured"),
    ("threshold", "threshold", _NUMBER, "the limit that it was held against"),
    ("control_value", "control_value", _NUMBER, "what was measured of those without the change"),
    ("sample_count", "sample_count", _INTEGER, "on how many observations it rests"),
    ("method", "method", _TEXT, "how it was judged"),
)
_MEASURED_NULLS: Final = frozenset({"value", "threshold", "control_value", "sample_count"})
JUDGEMENTS: Final = Group(
    "guard.",
    {"breached": "A guard began to fail.", "recovered": "It passes again."},
    (
        ("guard_id", "key", _TEXT, "the guard"),
        ("metric", "metric", _TEXT, "what is measured: a metric's key, or a query"),
        ("flag_key", "flag", _TEXT, "the flag that it watches"),
        ("variant", "variant", _TEXT, "the variant that it watches"),
        ("window_s", "window_s", _NUMBER, "over how many seconds"),
        ("evaluation", "evaluation", _INTEGER, "the number under which its evidence is kept"),
        *_MEASURED,
    ),
    _MEASURED_NULLS,
)
ACTS: Final = Group(
    "guard.",
    {
        "rolled_back": "A roll-back policy took something back.",
        "would_roll_back": "It would have, and is a shadow.",
        "frozen": "A roll-back policy stopped something where it was.",
        "would_freeze": "It would have, and is a shadow.",
        "resumed": "A roll-back policy let something go on again.",
        "would_resume": "It would have, and is a shadow.",
        "warned": "A roll-back policy has something to say, and does nothing.",
        "roll_back_failed": "A roll-back was wanted and could not be made; it is tried again.",
    },
    (
        ("policy_id", "key", _TEXT, "the roll-back policy"),
        ("mode", "mode", _TEXT, "enforce or shadow"),
        ("trigger", "trigger", _TEXT, "what kind of trigger it was"),
        ("guard_id", "guard", _TEXT, "the guard that it was; empty for none"),
        ("signal", "signal", _TEXT, "the signal or heartbeat that it was; empty for none"),
        ("metric", "metric", _TEXT, "what the guard watches: a metric's key, or a query"),
        ("window_s", "window_s", _NUMBER, "over how many seconds"),
        ("aim", "aim", _TEXT, "to what it goes back"),
        ("reach", "reach", _TEXT, "what kind of thing it takes back"),
        ("flag_key", "flag", _TEXT, "what it takes back, by its key"),
        ("revision", "revision", _INTEGER, "of what it changed; 0: nothing"),
        ("evaluation", "evaluation", _INTEGER, "the number under which its evidence is kept"),
        ("action_taken", "action_taken", _TEXT, "what was done"),
        *_MEASURED,
    ),
    _MEASURED_NULLS | {"window_s"},
)
GUARDS: Final = Group(
    "guard.",
    {"created": "A guard is there.", "updated": "It is another one.", "deleted": "It is gone."},
    (
        ("guard_id", "key", _TEXT, "the guard"),
        ("metric", "metric", _TEXT, "the metric that it watches"),
        ("provider", "provider", _TEXT, "who is asked instead"),
        ("query", "query", _TEXT, "what they are asked"),
        ("flag_key", "guarded_flag", _TEXT, "the flag that it watches"),
        ("variant", "variant", _TEXT, "the variant that it watches"),
        ("method", "method", _TEXT, "how it judges"),
        ("low", "low", _NUMBER, "below this it fails"),
        ("high", "high", _NUMBER, "above this it fails"),
        ("window_s", "window_s", _NUMBER, "over how many seconds it looks"),
        ("interval_s", "interval_s", _NUMBER, "how often it looks"),
    ),
    frozenset({"low", "high"}),
)
POLICIES: Final = Group(
    "rollback-policy.",
    {
        "created": "A roll-back policy is there.",
        "updated": "It is another one.",
        "deleted": "It is gone.",
        "armed": "It acts from now on.",
        "disarmed": "It does nothing until it is armed.",
    },
    (
        ("policy_id", "key", _TEXT, "the roll-back policy"),
        ("mode", "mode", _TEXT, "enforce or shadow"),
        ("aim", "aim", _TEXT, "to what it goes back"),
        ("reach", "reach", _TEXT, "what kind of thing it takes back"),
        ("flag_key", "flag", _TEXT, "what it takes back, by its key"),
        ("triggers", "triggers", _TEXT, "what sets it off"),
        ("confirm", "confirm", _INTEGER, "how often it must be so"),
        ("confirm_of", "confirm_of", _INTEGER, "of how many looks"),
        ("cool_down_s", "cool_down_s", _NUMBER, "how long it then rests"),
    ),
)
METRICS: Final = Group(
    "metric.",
    {"created": "A metric is there.", "updated": "It is another one.", "deleted": "It is gone."},
    (
        ("metric_key", "key", _TEXT, "the metric"),
        ("metric_kind", "metric_kind", _TEXT, "what is counted"),
        ("better", "better", _TEXT, "whether more is better, or less"),
        ("unit", "unit", _TEXT, "of its values"),
        ("description", "description", _TEXT, "what it says"),
    ),
)
TEMPLATES: Final = Group(
    "release_template.",
    {"created": "A release template is there.", "updated": "It is another one.", "deleted": "It is gone."},
    (
        ("name", "name", _TEXT, "the template"),
        ("steps", "steps", _TEXTS, "the share of each step, in percent"),
    ),
)
ENDED: Final = Group(
    "flag.",
    {"rule_ended": "A rule's end came, by its own timeline."},
    (
        ("flag_key", "key", _TEXT, "the flag"),
        ("rule_id", "rule", _TEXT, "the rule"),
        ("ended_at", "endedAt", _INSTANT, "when it ended"),
    ),
)
GROUPS: Final = (
    *(CHANGE_REQUESTS, SCHEDULES, RELEASES, TEMPLATES, PLANS),
    *(JUDGEMENTS, ACTS, GUARDS, POLICIES, METRICS, ENDED),
)


def told_types() -> Iterable[tuple[EventType, Group]]:
    """Each type with the group that knows its data."""
    return types_of(GROUPS)
