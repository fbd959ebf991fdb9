"""Say which gates of a release's step hold, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from server.core.counting import counted
from server.core.guards.verdicts import Verdict
from server.core.releases.plan import Check, External, Gates, OnTimeout, Policy, Reaction
from server.core.releases.progress import CheckProgress, ExternalProgress, Judged, Progress, Release, State

TIME: Final = "time"
MANUAL: Final = "manual"
SAMPLE: Final = "sample"
METRIC: Final = "metric"
EXTERNAL: Final = "external"
APPROVAL: Final = "approval"


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that a step asks for, and whether it is so."""

    kind: str
    name: str
    holds: bool
    text: str
    """In words, with the figures: evidence for what was decided."""


def gates_of(release: Release, now: datetime) -> tuple[Gate, ...]:
    """The gates of the step where a release is, in the order in which they are asked; approval is the last."""
    plan, progress = release.plan, release.progress
    if not 0 <= progress.step < len(plan.steps):
        return ()
    return tuple(_gates(plan.steps[progress.step].gates, progress, now))


def others_hold(gates: tuple[Gate, ...]) -> bool:
    """Whether all hold but for approvals."""
    return all(each.holds for each in gates if each.kind != APPROVAL)


def elapsed_s(progress: Progress, now: datetime) -> float:
    """How long a release has been in its step, pauses left out; 0 where a clock was set back."""
    if progress.entered_at is None:
        return 0.0
    until = progress.paused_at if progress.state is State.PAUSED and progress.paused_at is not None else now
    return max(0.0, (until - progress.entered_at).total_seconds() - progress.paused_s)


def _gates(gates: Gates, progress: Progress, now: datetime) -> Iterator[Gate]:
    if gates.minimum_s:
        passed = elapsed_s(progress, now)
        yield Gate(TIME, "", passed >= gates.minimum_s, f"{passed:.0f} s of {gates.minimum_s:g} s have passed")
    if gates.manual:
        yield Gate(MANUAL, "", False, "somebody has to advance it")
    if gates.sample_min:
        lacking = [each.guard for each in gates.checks if not each.dry_run and not check_of(progress, each).sampled]
        said = f"{', '.join(lacking)} has not seen" if lacking else "each guard has seen"
        yield Gate(SAMPLE, "", not lacking, f"{said} {counted(gates.sample_min, 'observation')}")
    for check in gates.checks:
        if not check.dry_run:
            yield _metric(check, check_of(progress, check))
    for external in gates.externals:
        yield _external(external, external_of(progress, external), now)
    if gates.approvals:
        names = [each.actor for each in progress.step_approvals]
        by = f" ({', '.join(names)})" if names else ""
        text = f"{len(names)} of {counted(gates.approvals, 'approval')}{by}"
        yield Gate(APPROVAL, "", len(names) >= gates.approvals, text)


def check_of(progress: Progress, check: Check) -> CheckProgress:
    """What a guard said during the step."""
    return next((each for each in progress.checks if each.guard == check.guard), CheckProgress(check.guard))


def external_of(progress: Progress, external: External) -> ExternalProgress:
    """What became of a question to somebody outside."""
    return next((each for each in progress.externals if each.name == external.name), ExternalProgress(external.name))


def applied_policy(check: Check, said: CheckProgress) -> Policy | None:
    """What is done about the guard's last verdict; None while there were not more of them than its limit."""
    match said.verdict:
        case None | Verdict.PASS:
            return None
        case Verdict.FAIL:
            return _beyond(check.fail, said.fails)
        case Verdict.INCONCLUSIVE:
            return _beyond(check.inconclusive, said.inconclusives)
        case Verdict.NO_DATA:
            return _beyond(check.no_data, said.no_data_in_a_row)
        case Verdict.ERROR:
            return _beyond(check.error, said.errors_in_a_row)
        case _:
            assert_never(said.verdict)


def _beyond(reaction: Reaction, count: int) -> Policy | None:
    return reaction.policy if count > reaction.limit else None


def heard(check: Check, said: CheckProgress, judged: Judged, *, sample_min: int) -> CheckProgress:
    """What a guard has said by now; the very same when its word makes no difference to any gate."""

    def count(verdict: Verdict, so_far: int, most: int) -> int:
        return min(so_far + 1, most) if judged.verdict is verdict else so_far

    def row(verdict: Verdict, so_far: int, most: int) -> int:
        return min(so_far + 1, most) if judged.verdict is verdict else 0

    after = replace(
        said,
        verdict=judged.verdict,
        fails=count(Verdict.FAIL, said.fails, check.fail.limit + 1),
        inconclusives=count(Verdict.INCONCLUSIVE, said.inconclusives, check.inconclusive.limit + 1),
        no_data_in_a_row=row(Verdict.NO_DATA, said.no_data_in_a_row, check.no_data.limit + 1),
        errors_in_a_row=row(Verdict.ERROR, said.errors_in_a_row, check.error.limit + 1),
        passes_in_a_row=row(Verdict.PASS, said.passes_in_a_row, check.passes),
        # Providers do not always tell how many; a pass of theirs is one of enough.
        sampled=(judged.verdict is Verdict.PASS if judged.sample_count is None else judged.sample_count >= sample_min),
    )
    if after == said:
        return said
    return replace(
        after, value=judged.value, threshold=judged.threshold, text=judged.text, evaluation=judged.evaluation
    )


def _metric(check: Check, said: CheckProgress) -> Gate:
    policy = applied_policy(check, said)
    holds = said.passes_in_a_row >= check.passes or policy in (Policy.ADVANCE, Policy.WARN)
    verdict = "has not judged yet" if said.verdict is None else f"says {said.verdict}"
    details = f": {said.text}" if said.text else ""
    evaluation = f" [{said.evaluation}]" if said.evaluation else ""
    done = f", so {policy}" if policy is not None else ""
    return Gate(METRIC, check.guard, holds, f"{check.guard} {verdict}{details}{done}{evaluation}")


def _external(external: External, asked: ExternalProgress, now: datetime) -> Gate:
    if asked.go is not None:
        word = "go" if asked.go else "no-go"
        reason = f": {asked.text}" if asked.text else ""
        return Gate(EXTERNAL, external.name, asked.go, f"{external.name}: {asked.actor} says {word}{reason}")
    if asked.asked_at is None:
        return Gate(EXTERNAL, external.name, False, f"{external.name} has not been asked yet")
    if is_silent(external, asked, now):
        text = f"{external.name} has not answered within {external.timeout_s:g} s, so {external.on_timeout}"
        return Gate(EXTERNAL, external.name, external.on_timeout is OnTimeout.GO, text)
    return Gate(EXTERNAL, external.name, False, f"{external.name} has been asked and has not answered yet")


def is_silent(external: External, asked: ExternalProgress, now: datetime) -> bool:
    """Whether somebody was asked and has not answered in time."""
    if asked.go is not None or asked.asked_at is None:
        return False
    return now >= asked.asked_at + timedelta(seconds=external.timeout_s)
