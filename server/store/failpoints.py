"""Kill this process at a named point, so that crash proofs can stop a commit exactly where it hurts.

It is part of the product and not of the tests because the proof must run the code that users run:
`FLAGSTAFF_FAILPOINT=commit.saved flagstaff import FILE` shows on any machine, with any database, what a crash
at that point leaves behind. Unset, as it should be, a point costs one comparison.

    commit.begin          the write lock is held, nothing is read yet
    import.half           half of a large commit's flags are saved
    commit.saved          flags, segments and revisions are saved, the audit entries are not
    commit.audited        audit entries are saved, the outbox is not
    commit.before_commit  everything is saved in the open transaction
    commit.after_commit   the transaction is durable, nobody has been told
    release.due           the write lock is held, a release is about to go on
    release.carried_on    what a release did is in the open transaction, its flags and its log alike
    release.committed     the transaction of releases that went on by themselves is durable
    plan.due              the write lock is held, a launch plan is about to go on
    plan.carried_on       what a launch plan did is in the open transaction, its flags and its log alike
    plan.committed        that transaction is durable
    metrics.applied       observations are summed up in the open transaction
    metrics.committed     observations are durable, nobody has been told
    guards.claimed        guards are this transaction's, none is judged yet
    guards.judged         a guard is judged in the open transaction, and what came of it is done
    guards.committed      that transaction is durable
    schedules.claimed        due schedules are this transaction's, nothing is done yet
    schedules.applied        the first of them has made its change in the open transaction, which does not say so yet
    schedules.before_commit  what became of all of them is saved in the open transaction
    schedules.after_commit   the transaction is durable
    deliveries.fanned     deliveries of events are in the open transaction, and how far they came
    deliveries.made       that transaction is durable
    deliveries.claiming   deliveries are claimed in the open transaction
    deliveries.claimed    that transaction is durable, nothing is sent
    deliveries.answered   a receiver has answered, and nobody else knows
    deliveries.recording  what became of deliveries is in the open transaction
    deliveries.recorded   that transaction is durable
    deliveries.told       what happened to deliveries is announced in the open transaction
    rules.looked          what rules are to do is in the open transaction, with how far was looked
    rules.claimed         runs of rules are this process's, none is done yet
    rules.done            one of them is done, and nobody has kept that
    migrate.half          a migration step has run in the open transaction
    restore.copied        a backup's content is in the open transaction, in place of what was there
"""

import os
import signal
from typing import Final

NAMES: Final = (
    "commit.begin",
    "import.half",
    "commit.saved",
    "commit.audited",
    "commit.before_commit",
    "commit.after_commit",
    "release.due",
    "release.carried_on",
    "release.committed",
    "plan.due",
    "plan.carried_on",
    "plan.committed",
    "metrics.applied",
    "metrics.committed",
    "guards.claimed",
    "guards.judged",
    "guards.committed",
    "schedules.claimed",
    "schedules.applied",
    "schedules.before_commit",
    "schedules.after_commit",
    "deliveries.fanned",
    "deliveries.made",
    "deliveries.claiming",
    "deliveries.claimed",
    "deliveries.answered",
    "deliveries.recording",
    "deliveries.recorded",
    "deliveries.told",
    "rules.looked",
    "rules.claimed",
    "rules.done",
    "migrate.half",
    "restore.copied",
)

_armed: Final = os.environ.get("FLAGSTAFF_FAILPOINT", "")
if _armed and _armed not in NAMES:
    raise ValueError(f"FLAGSTAFF_FAILPOINT is {_armed!r}, expected one of: {', '.join(NAMES)}")


def reach(name: str) -> None:
    """Die here, as if the power went, when the environment names this point."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
