"""Name every bound that a definition, a context or a rule must keep.

A bound stands here once; errors print its figure. Figures follow the fault catalogue's
proposals (rule depth, node count, list and context sizes) where it gives one.
"""

from typing import Final

KEY_CHARS_MAX: Final = 256
"""Length of a flag, segment, variant or rule key."""

NAME_CHARS_MAX: Final = 64
"""Length of a project or environment key; they are joined to `<project>/<environment>`."""

FLAGS_PER_SET_MAX: Final = 50_000
SEGMENTS_PER_SET_MAX: Final = 10_000
VARIANTS_MAX: Final = 256
RULES_MAX: Final = 200
PREREQUISITES_MAX: Final = 32
PREREQUISITE_DEPTH_MAX: Final = 8
SEGMENT_DEPTH_MAX: Final = 8
TARGET_KEYS_MAX: Final = 10_000
"""Individual targets of one flag, all variants together."""

LIST_ITEMS_MAX: Final = 10_000
"""Items of one list inside a rule, and keys of a segment that stand in its definition.

A segment with more keys is large: they are kept and looked up apart from it, on the server only.
"""

KEYS_PER_SEGMENT_MAX: Final = 2_000_000
KEY_LIST_BYTES_MAX: Final = 128 * 1024 * 1024
"""All keys of one large segment, in UTF-8 with a byte between them: what they take in memory and in the database."""

KEY_LISTS_BYTES_MAX: Final = 512 * 1024 * 1024
"""The same for all large segments of one environment."""

BULK_STREAMS_MAX: Final = 2
"""Streams of keys that a process takes at once; each may hold KEY_LIST_BYTES_MAX until it is committed."""

RULE_DEPTH_MAX: Final = 32
"""Nested operators in one condition or raw targeting, as written."""

RULE_NODES_MAX: Final = 1_000
"""Operators and operands of one condition or raw targeting; items of literal lists count apart."""

LOWERED_NODES_MAX: Final = 20_000
"""Nodes of one flag after segments and prerequisites are written out."""

LOWERED_DEPTH_MAX: Final = 96
"""Nested operators of one flag after segments and prerequisites are written out."""

VALUE_BYTES_MAX: Final = 64 * 1024
"""A variant's value as compact JSON."""

VALUE_DEPTH_MAX: Final = 16
METADATA_ENTRIES_MAX: Final = 64
TEXT_CHARS_MAX: Final = 4_096
"""A description, link, owner or other prose field."""

TAGS_MAX: Final = 64
DOCUMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""An imported file."""

SYNC_CONTEXT_BYTES_MAX: Final = 63 * 1024
"""The server's fixed context values, as in-process clients are sent them."""

SYNC_BYTES_MAX: Final = 4 * 1024 * 1024 - 64 * 1024
"""A flag set as in-process clients are sent it: gRPC's default of 4 MiB a message, less room for the fixed context."""

APPROVALS_MAX: Final = 10
"""Approvals that an environment may ask for."""

NAMED_PEOPLE_MAX: Final = 100
"""People whom one approval policy or one freeze window names."""

FREEZE_WINDOWS_MAX: Final = 100
"""Of one environment, past ones included until they are taken out."""

SHARE_STEPS_MAX: Final = 50
"""Instants at which one share becomes another by the clock."""

SHARE_PARTS: Final = 100_000
"""A share is counted in parts of this; 1 part is 0.001 %."""

WEIGHT_SUM_MAX: Final = 2_147_483_647
"""Sum of a split's weights, flagd's bound for `fractional`."""

CONTEXT_BYTES_MAX: Final = 64 * 1024
CONTEXT_ATTRIBUTES_MAX: Final = 256
CONTEXT_KEY_BYTES_MAX: Final = 1_024
CONTEXT_VALUE_BYTES_MAX: Final = 8 * 1_024
CONTEXT_DEPTH_MAX: Final = 8

EVALUATION_STEPS_MAX: Final = 5_000
"""Rule nodes that one evaluation may visit inside `map`, `filter`, `reduce`, `all`, `some`, `none`."""

TEXT_RESULT_CHARS_MAX: Final = 8_192
"""Longest text that `cat` may build inside a rule."""

LIST_TEXT_ITEMS_MAX: Final = 50
"""Items of a list that a rule may use as a text; writing a caller's long list out again and again takes too long."""

BATCH_EVALUATIONS_MAX: Final = 1_000_000
BATCH_CONTEXTS_MAX: Final = 10_000
WATCHED_KEYS_MAX: Final = 1_000
"""Flags that one subscription names; one that names none gets all."""

SIMULATED_CONTEXTS_MAX: Final = 10_000
"""Contexts of one simulation."""

SIMULATED_EVALUATIONS_MAX: Final = 1_000_000
"""Contexts times affected flags of one simulation; with more flags, fewer contexts are evaluated."""

METRICS_MAX: Final = 1_000
"""Of one project."""

METRIC_UNIT_CHARS_MAX: Final = 32
METRIC_STEPS_MAX: Final = 1_000
"""The step that an observation names is less."""

OBSERVED_VALUE_MAX: Final = 1e100
"""The size of an observed value; the square of a greater one could not be summed up."""

OBSERVATIONS_PER_BATCH_MAX: Final = 10_000
SERIES_PER_BATCH_MAX: Final = 1_000
PRODUCER_CHARS_MAX: Final = 128
PRODUCER_WINDOW: Final = 62
"""How far behind its producer's newest batch one may be and still be taken."""

PRODUCER_DAYS: Final = 7
"""A producer from which nothing came for so long is forgotten; what it sends again then counts again."""

METRIC_DAYS: Final = 90
"""Sums of older hours are forgotten, and older observations not taken."""

METRIC_FINE_S: Final = 10
"""Sums are kept by such a stretch of time, for windows that end now,"""

METRIC_FINE_KEPT_S: Final = 2 * 3_600
"""for so long, and by the hour from then on."""

BATCHES_PER_COMMIT_MAX: Final = 64
BATCHES_WAITING_MAX: Final = 256
"""Batches of observations that wait for their commit; who sends more waits for room."""

BATCHES_PER_STREAM_MAX: Final = 16
"""Batches of one stream that are not acknowledged yet."""

SUMS_PER_REPLY_MAX: Final = 10_000

GUARDS_MAX: Final = 1_000
"""Of one project."""

GUARD_INTERVAL_S_MIN: Final = 1.0
GUARD_WINDOW_S_MAX: Final = 30 * 86_400.0
GUARD_GAP_S: Final = 0.25
"""A guard is not judged more often, however much is observed."""

ROLLBACK_POLICIES_MAX: Final = 1_000
"""Of one project."""

TRIGGERS_MAX: Final = 20
"""Of one policy."""

CONFIRMATIONS_MAX: Final = 100
COOL_DOWN_S_MAX: Final = 30 * 86_400.0
EVALUATIONS_KEPT_MAX: Final = 1_000
"""Of one guard, and of one policy: the newest."""

ROLLED_BACK_MAX: Final = 1_000
"""Flags that one roll-back changes; a policy that reaches more is refused when it is made, and takes the first."""

CHANGE_REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""What one change request asks for, as it is stored."""

CHANGE_REQUEST_LINES_MAX: Final = 1_000
"""Lines that are kept of what a change request changes."""

CHANGE_REQUEST_STEPS_MAX: Final = 1_000
"""Comments, approvals and everything else that happens to one change request."""

CHANGE_REQUESTS_OPEN_MAX: Final = 1_000
"""Change requests of a project that are not closed."""

CHANGE_REQUESTS_CLOSED_MAX: Final = 5_000
"""Closed ones of a project that are kept; the audit trail keeps what became of all."""

CHANGE_REQUEST_DAYS: Final = 30
"""A change request to which nothing happened for so long expires."""

OCCURRENCES_MAX: Final = 10_000
"""Times that a recurrence may be limited to; what it comes to is counted from its start."""

CLOSURES_MAX: Final = 100
"""Windows of one calendar in which nothing is to happen."""

LAUNCH_ITEMS_MAX: Final = 200
"""Items of one launch plan."""

LAUNCH_CHECKS_MAX: Final = 50
"""Points of a launch plan's go/no-go list."""

LAUNCH_PLAN_BYTES_MAX: Final = 4 * 1024 * 1024
"""One launch plan as it is stored."""

LAUNCH_PLANS_OPEN_MAX: Final = 500
"""Launch plans of a project that are not over."""

LAUNCH_PLANS_CLOSED_MAX: Final = 1_000
"""Those of a project that are over and are kept; the audit trail keeps what became of all."""

LAUNCH_STEPS_MAX: Final = 2_000
"""What may happen to one launch plan at the hands of people: answers, approvals, shifts."""

RELEASE_STEPS_MAX: Final = 100
RELEASE_PATCHES_MAX: Final = 200
"""Of one step of a release."""

RELEASE_CHECKS_MAX: Final = 20
"""Checks and questions to others, together, of one step of a release."""

RELEASE_WAIT_S_MAX: Final = 366 * 24 * 3600.0
"""Longest time that a step of a release, or an answer to it, may be given."""

RELEASE_BYTES_MAX: Final = 1024 * 1024
"""A release's plan, and what was there before it, as they are stored."""

RELEASES_LIVE_MAX: Final = 5_000
"""Releases of a project that have not ended."""

RELEASES_ENDED_MAX: Final = 5_000
"""Ended ones of a project that are kept; the audit trail keeps what became of all."""

RELEASE_TEMPLATES_MAX: Final = 200
"""Of one project."""

SCHEDULES_MAX: Final = 20_000
"""Schedules of a project that are not closed."""

SCHEDULES_CLOSED_MAX: Final = 5_000
"""Closed ones of a project that are kept; the audit trail keeps what became of all."""

SCHEDULE_STEPS_MAX: Final = 1_000
"""The last things that happened to one schedule; the audit trail keeps all."""

SCHEDULE_WRITES_MAX: Final = 100
"""Writes that one schedule makes as one commit."""

SCHEDULE_GRACE_S_MAX: Final = 31 * 86_400
SCHEDULE_REMINDER_S_MAX: Final = 31 * 86_400
SCHEDULED_AHEAD_DAYS_MAX: Final = 5 * 366
"""How far ahead a single instant may be."""

STALE_DAYS_MAX: Final = 3_650
"""Of any term by which flags become stale, and of a snooze."""

STALE_PORTION: Final = 100
"""Flags that are looked at, whether they are still of use, in one transaction."""

RULES_PER_PROJECT_MAX: Final = 500
"""If this then that: what is done by itself."""

RULE_BYTES_MAX: Final = 64 * 1024
"""One such rule as it is stored."""

RULE_RUNS_WAITING_MAX: Final = 10_000
"""Runs of one rule that wait; what comes then is refused."""

RULE_RUNS_KEPT: Final = 1_000
"""Runs of one rule that are over and are kept: the newest."""
