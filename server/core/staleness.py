"""Decide whether a flag is still of use: a first, honest rule of age and of one variant for everybody.

A flag is of the code, so it is stale in the whole project or not at all. What is decided rests on what was written
alone: its kind and lifetime, its configurations, and when somebody changed them last. Who evaluates it is not asked
here: an environment that reports nothing must not make flags stale.

    active -> potentially_stale (told, and the grace begins) -> stale
    any -> snoozed until an instant, and back; a change of the flag makes it active again
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from server.core.errors import InvalidRequest
from server.core.flags import Flag, FlagConfig, FlagDefinition, FlagKind, Outside, Rule, Serve, Split
from server.core.limits import SHARE_PARTS, STALE_DAYS_MAX
from server.core.timelines import next_instant

LOOK_AGAIN: Final = timedelta(days=1)
"""A flag that something is still to change is looked at again then."""


class StaleState(StrEnum):
    """How much a flag is still of use."""

    ACTIVE = "active"
    POTENTIALLY_STALE = "potentially_stale"
    STALE = "stale"
    SNOOZED = "snoozed"
    """Somebody does not want to hear of it for a while."""


class StaleRule(StrEnum):
    """Why a flag is thought to be of no more use."""

    LIFETIME = "lifetime"
    """It is temporary, and past the time that it was expected to live."""

    ONE_VARIANT = "one_variant"
    """It serves everybody the same, and nobody has changed it for long."""

    MARKED = "marked"
    """Somebody said so."""


class Exempt(StrEnum):
    """Why a flag is never stale as it stands."""

    PERMANENT = "permanent"
    ARCHIVED = "archived"
    KIND = "kind"
    """Flags of its kind have no lifetime in this project, and it has none of its own."""

    HELD = "held"
    """A release or a schedule is still to change it."""


DEFAULT_LIFETIMES: Final[Mapping[FlagKind, int | None]] = {
    FlagKind.RELEASE: 40,
    FlagKind.EXPERIMENT: 40,
    # Kill switches are operational here; they serve one variant for years, and are meant to.
    FlagKind.OPERATIONAL: None,
    FlagKind.PERMISSION: None,
}
"""Days that a temporary flag of a kind is expected to live, where it does not say so itself; None: for ever."""


@dataclass(frozen=True, slots=True)
class StalePolicy:
    """How long a project lets flags be."""

    lifetimes: Mapping[FlagKind, int | None] = field(default_factory=lambda: DEFAULT_LIFETIMES)
    quiet_days: int = 7
    """A flag past its lifetime counts as in use until nobody has changed it for so long."""

    unchanged_days: int = 30
    """A flag with one variant for everybody counts as in use until nobody has changed it for so long."""

    grace_days: int = 14
    """From the first notice until it is stale."""


DEFAULT_POLICY: Final = StalePolicy()


@dataclass(frozen=True, slots=True)
class Served:
    """What everybody gets; a variant of None is the caller's own default."""

    variant: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is written of a flag. Shapes: instants are aware."""

    created_at: datetime
    changed_at: datetime
    """When its definition became another one last, in any environment."""

    served: Served | None = None
    """None: not everybody gets the same, or that cannot be told from its configuration."""

    lifetime_days: int | None = None
    exempt: Exempt | None = None
    snoozed_until: datetime | None = None
    marked_at: datetime | None = None
    """When somebody said that it is stale."""

    noticed_at: datetime | None = None
    """When it was told to be potentially stale; None while it is not."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule that holds, and since when."""

    rule: StaleRule
    since: datetime


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a flag is at an instant."""

    state: StaleState
    reasons: tuple[Reason, ...] = ()
    """The longest first."""

    noticed_at: datetime | None = None
    """When the grace began."""

    stale_at: datetime | None = None
    """When it is stale, or became so, if nothing happens to it."""

    next_at: datetime | None = None
    """When there is something to decide again; None: when somebody does something."""


def assess(facts: Facts, policy: StalePolicy, now: datetime) -> Assessment:
    """What a flag is now. It is the same until `next_at`, while nobody touches the flag or the policy."""
    if facts.exempt is Exempt.HELD:
        return Assessment(StaleState.ACTIVE, next_at=now + LOOK_AGAIN)
    if facts.exempt in (Exempt.PERMANENT, Exempt.ARCHIVED):
        return Assessment(StaleState.ACTIVE)
    if facts.snoozed_until is not None and now < facts.snoozed_until:
        return Assessment(StaleState.SNOOZED, next_at=facts.snoozed_until)
    if facts.marked_at is not None and facts.marked_at >= facts.changed_at:
        at = facts.marked_at
        return Assessment(StaleState.STALE, (Reason(StaleRule.MARKED, at),), facts.noticed_at or at, at)
    expected = () if facts.exempt is Exempt.KIND else _reasons(facts, policy)
    reasons = tuple(each for each in expected if each.since <= now)
    if not reasons:
        return Assessment(StaleState.ACTIVE, next_at=min((each.since for each in expected), default=None))
    noticed_at = facts.noticed_at or now
    stale_at = noticed_at + timedelta(days=policy.grace_days)
    if stale_at <= now:
        return Assessment(StaleState.STALE, reasons, noticed_at, stale_at)
    return Assessment(StaleState.POTENTIALLY_STALE, reasons, noticed_at, stale_at, stale_at)


def _reasons(facts: Facts, policy: StalePolicy) -> tuple[Reason, ...]:
    """The rules that come to hold if nobody touches the flag, the first to do so first."""
    found = []
    if facts.lifetime_days is not None:
        over = facts.created_at + timedelta(days=facts.lifetime_days)
        quiet = facts.changed_at + timedelta(days=policy.quiet_days)
        found.append(Reason(StaleRule.LIFETIME, max(over, quiet)))
    if facts.served is not None:
        since = max(facts.created_at, facts.changed_at) + timedelta(days=policy.unchanged_days)
        found.append(Reason(StaleRule.ONE_VARIANT, since))
    return tuple(sorted(found, key=lambda each: each.since))


def lifetime_of(flag: Flag, policy: StalePolicy) -> int | None:
    """Days that a flag is expected to live: by its own word, or else by its kind. None: for ever."""
    own = flag.expected_lifetime_days
    return policy.lifetimes.get(flag.kind) if own is None else own


def exempt_of(flag: Flag, policy: StalePolicy) -> Exempt | None:
    """Why a flag is never stale as it is written; None: it may be."""
    if flag.archived_at is not None:
        return Exempt.ARCHIVED
    if not flag.temporary:
        return Exempt.PERMANENT
    return Exempt.KIND if lifetime_of(flag, policy) is None else None


def served_by_all(definitions: Iterable[FlagDefinition], at: datetime) -> Served | None:
    """What everybody gets in each of these environments; None where it is not the same."""
    found = {served_to_all(each, at) for each in definitions}
    return found.pop() if len(found) == 1 else None


def served_to_all(definition: FlagDefinition, at: datetime) -> Served | None:
    """What everybody gets from a flag in one environment, now and later; None when it may be one or the other.

    Everybody are those who have what the flag buckets by: a share of 100 % lets in nobody else.
    """
    config = definition.config
    if not definition.is_on:
        return Served(config.off_variant)
    if config.targeting not in (None, {}) or next_instant(config, at) is not None:
        # What raw targeting comes to cannot be told without asking it, and the clock is still to change the other.
        return None
    reached = _reached(config, at)
    return Served(reached.pop()) if len(reached) == 1 else None


def _reached(config: FlagConfig, at: datetime) -> set[str | None]:
    """Every variant that somebody may get."""
    reached: set[str | None] = {target.variant for target in config.targets if target.keys}
    if config.prerequisites:
        reached.add(config.off_variant)
    for rule in config.rules:
        if not rule.is_asked_at(at.timestamp()):
            continue
        reached |= _reached_by(rule, config.default)
        if rule.condition is None and (_is_whole(rule) or rule.outside is Outside.DEFAULT):
            return reached
    return reached | _variants(config.default)


def _reached_by(rule: Rule, default: Serve | None) -> set[str | None]:
    inside = _variants(rule.serve) if rule.share is None or rule.share.parts > 0 else set()
    outside = not _is_whole(rule) and rule.outside is Outside.DEFAULT
    return inside | (_variants(default) if outside else set())


def _is_whole(rule: Rule) -> bool:
    return rule.share is None or rule.share.parts >= SHARE_PARTS


def _variants(serve: Serve | None) -> set[str | None]:
    if isinstance(serve, Split):
        return {variant for variant, weight in serve.weights if weight > 0}
    return {serve}


def check_policy(policy: StalePolicy) -> None:
    """Errors: InvalidRequest for days that are none, naming them."""
    days = {f"lifetime of kind {kind.value}": given for kind, given in policy.lifetimes.items() if given is not None}
    for name, given in {**days, "unchanged_days": policy.unchanged_days}.items():
        if not 1 <= given <= STALE_DAYS_MAX:
            raise InvalidRequest(f"{name} is {given}, expected 1 to {STALE_DAYS_MAX} days")
    for name, given in {"quiet_days": policy.quiet_days, "grace_days": policy.grace_days}.items():
        if not 0 <= given <= STALE_DAYS_MAX:
            raise InvalidRequest(f"{name} is {given}, expected 0 to {STALE_DAYS_MAX} days")
