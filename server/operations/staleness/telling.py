"""Tell of a flag that is of no more use, or is of use again, and on what that rests."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from server.core.flags import Flag
from server.core.json import Json
from server.core.staleness import Assessment, Facts, Reason, StaleRule, StaleState
from server.store.occurrences import Occurrence

ACTOR: Final = "staleness"
"""As the audit trail names who looks through flags."""

POTENTIALLY_STALE: Final = "flag.potentially_stale"
STALE: Final = "flag.stale"
CLEARED: Final = "flag.stale_cleared"

_DAY: Final = timedelta(days=1)
_TOLD: Final = {StaleState.POTENTIALLY_STALE, StaleState.STALE}


def happening(before: StaleState, after: StaleState) -> str:
    """What others are told when a flag goes from one state to another; "" for nothing."""
    if after is before:
        return ""
    match after:
        case StaleState.POTENTIALLY_STALE:
            return POTENTIALLY_STALE
        case StaleState.STALE:
            return STALE
    return CLEARED if before in _TOLD else ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A flag that went from one state to another."""

    project: str
    flag: Flag
    facts: Facts
    before: StaleState
    assessed: Assessment
    now: datetime


def occurrence(
    type_: str, turn: Turn, *, by: str = "", actor: str = ACTOR, reason: str = "", cause: str = ""
) -> Occurrence:
    """What happened to a flag, with its evidence. `by` says what cleared it; `reason` is somebody's own words."""
    flag, facts, assessed, now = turn.flag, turn.facts, turn.assessed, turn.now
    lines = evidence(facts, assessed, now)
    told = {
        **_of_flag(flag),
        "state": assessed.state.value,
        "previous_state": turn.before.value,
        "rule": assessed.reasons[0].rule.value if assessed.reasons else "",
        "days_since_change": days_between(facts.changed_at, now),
        "age_days": days_between(facts.created_at, now),
        "lifetime_days": facts.lifetime_days,
        "expires_at": _text(expires_at(facts)),
        "one_variant": facts.served is not None,
        "served_variant": None if facts.served is None else facts.served.variant,
        "since": _text(assessed.reasons[0].since if assessed.reasons else None),
        "stale_at": _text(assessed.stale_at),
        "days_stale": _days_stale(assessed, now),
        "suggested_action": suggested_action(facts, assessed),
        "by": by,
        "snoozed_until": _text(facts.snoozed_until if assessed.state is StaleState.SNOOZED else None),
        "evidence": list[Json](lines),
    }
    return Occurrence(
        project=turn.project,
        kind="flag",
        key=flag.key,
        type=type_,
        actor=actor,
        at=now,
        data=told,
        reason=reason or "; ".join(lines) or by,
        cause=cause,
    )


def evidence(facts: Facts, assessed: Assessment, now: datetime) -> list[str]:
    """Why a flag is thought to be stale, a sentence for each rule that holds."""
    return [_sentence(reason, facts, now) for reason in assessed.reasons]


def suggested_action(facts: Facts, assessed: Assessment) -> str:
    """What would end it, for people; "" where nothing is to be done."""
    if assessed.state not in _TOLD:
        return ""
    if facts.served is None:
        return "finish its roll-out, give it a longer lifetime, or say that it is permanent"
    if facts.served.variant is None:
        return "take it out of the code, where its callers' defaults are served already, and archive it"
    return f"put what {facts.served.variant!r} does into the code without asking for the flag, and archive it"


def expires_at(facts: Facts) -> datetime | None:
    """The end of the lifetime that it was expected to have; None: it has none."""
    return None if facts.lifetime_days is None else facts.created_at + timedelta(days=facts.lifetime_days)


def days_between(earlier: datetime, now: datetime) -> int:
    """Whole days; none that are still to come."""
    return max(0, (now - earlier) // _DAY)


def _sentence(reason: Reason, facts: Facts, now: datetime) -> str:
    quiet = f"nobody has changed it for {_days(facts.changed_at, now)}"
    match reason.rule:
        case StaleRule.LIFETIME:
            age = _days(facts.created_at, now)
            return f"it is temporary, was to live {facts.lifetime_days} days and is {age} old, and {quiet}"
        case StaleRule.ONE_VARIANT:
            served = None if facts.served is None else facts.served.variant
            what = "its callers' own defaults" if served is None else f"variant {served!r}"
            return f"everybody gets {what}, and {quiet}"
        case StaleRule.MARKED:
            return "somebody said so"


def _days(earlier: datetime, now: datetime) -> str:
    days = days_between(earlier, now)
    return "1 day" if days == 1 else f"{days} days"


def _days_stale(assessed: Assessment, now: datetime) -> int | None:
    if assessed.state is not StaleState.STALE or assessed.stale_at is None:
        return None
    return days_between(assessed.stale_at, now)


def _of_flag(flag: Flag) -> Mapping[str, Json]:
    return {
        "flag_name": flag.description.strip().partition("\n")[0][:100] or flag.key,
        "flag_type": flag.type.value,
        "flag_kind": flag.kind.value,
        "owner": flag.owner,
        "temporary": flag.temporary,
        "tags": list(flag.tags),
    }


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
