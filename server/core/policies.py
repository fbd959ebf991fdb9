"""Decide whether a change may be made to an environment now."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from server.core.access import Action, Principal, Scope
from server.core.environments import ApprovalPolicy, Covered, Environment, FreezeWindow
from server.core.events import EnvironmentUpdated, Event, FlagUpdated

Permit: TypeAlias = Callable[[Environment, Sequence[Event]], None]
"""Asked within the commit, with the environment as it is stored and what would happen; raises what is in the way.

Also asked for other environments that the change reaches, since they share a flag's variants."""


def permit_all(_environment: Environment, _events: Sequence[Event]) -> None:
    """Let everything through."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for a change, when, and whether in an emergency."""

    principal: Principal
    now: datetime
    reason: str = ""
    bypass: bool = False
    """Change it in spite of what protects the environment; takes a permission of its own, and a reason."""


def freeze_problem(environment: Environment, events: Sequence[Event], asking: Asking) -> str:
    """Which freeze window is in the way of a change, and until when; "" for none.

    A kill always passes, and so does a further window. `asking.bypass` counts only together with its permission and a
    reason; what is missing of them is told.
    """
    window = _in_the_way(environment, events, asking)
    if window is None:
        return ""
    until = f"{window.ends_at:%Y-%m-%d %H:%M} UTC"
    frozen = f"environment {environment.flag_set!r} is frozen until {until}: {window.reason}"
    if not asking.bypass:
        return f"{frozen}; wait, turn flags off where something burns, or bypass the freeze with a reason"
    if not asking.principal.may(Action.BYPASS, Scope(environment.project, environment.key)):
        return f"{frozen}; {asking.principal.actor} may not bypass it, which takes the role `bypass` there"
    return "" if asking.reason.strip() else f"{frozen}; to bypass it takes a reason, for the audit trail"


def _in_the_way(environment: Environment, events: Sequence[Event], asking: Asking) -> FreezeWindow | None:
    if all(is_kill(event) or _only_adds_windows(event) for event in events):
        return None
    scope = Scope(environment.project, environment.key)
    closed = (
        window
        for window in environment.freeze_windows
        if window.starts_at <= asking.now < window.ends_at and not _is_let_in(window, asking.principal, scope)
    )
    # Of several, the one that lasts longest: it says when the change can really be made.
    return max(closed, key=lambda window: window.ends_at, default=None)


def needs_approval(environment: Environment, events: Sequence[Event]) -> bool:
    """Whether an environment's policy asks for approvals of a change; never of one that only kills."""
    policy = environment.approval_policy
    covered = set(policy.covers)
    return policy.approvals > 0 and any(
        event.kind != "project" and Covered(event.kind) in covered and not is_kill(event) for event in events
    )


def counts_as_approver(policy: ApprovalPolicy, principal: Principal, scope: Scope) -> bool:
    """Whether somebody's approval counts for a change in a place; that it is not their own change is not asked here."""
    if not principal.may(Action.APPROVE, scope):
        return False
    if not policy.roles and not policy.actors:
        return True
    return principal.actor in policy.actors or bool(principal.roles(scope).intersection(policy.roles))


def is_kill(event: Event) -> bool:
    """Whether all that happens is that a flag is turned off."""
    if not isinstance(event, FlagUpdated) or not event.before.config.enabled:
        return False
    killed = replace(event.before, config=replace(event.before.config, enabled=False))
    return _same(killed, event.after)


def _only_adds_windows(event: Event) -> bool:
    if not isinstance(event, EnvironmentUpdated):
        return False
    before, after = event.before, event.after
    kept = set(before.freeze_windows) <= set(after.freeze_windows)
    return kept and _same(replace(before, freeze_windows=after.freeze_windows), after)


def _is_let_in(window: FreezeWindow, principal: Principal, scope: Scope) -> bool:
    return principal.actor in window.actors or bool(principal.roles(scope).intersection(window.roles))


def _same(before: object, after: object) -> bool:
    # repr tells 1 from true and from 1.0, which `==` does not.
    return before == after and repr(before) == repr(after)
