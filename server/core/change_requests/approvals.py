"""Count whose approval counts, as an environment's policy asks for it now."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from server.core.access import Action, Principal, Scope
from server.core.change_requests.machine import Approval
from server.core.counting import counted
from server.core.environments import Environment
from server.core.events import Event
from server.core.policies import counts_as_approver, needs_approval

WhoIs: TypeAlias = Callable[[str], Principal | None]
"""Actor -> who that is now, with nothing granted when they are gone; None when nobody can know."""


class Agreed(Protocol):
    """Anything that others may have to agree to: who asked for it, and who has agreed."""

    @property
    def authors(self) -> tuple[str, ...]:
        """Their approvals never count."""

    @property
    def approvals(self) -> tuple[Approval, ...]:
        """As they were given."""


def nobody_knows(_actor: str) -> None:
    """What is asked where people are known only while they call."""


def as_of_now(actor: str, known: Principal, who_is: WhoIs) -> Principal:
    """Somebody with what they are allowed now, or else with what they were allowed then."""
    found = who_is(actor)
    return known if found is None else found


def approvers(progress: Agreed, environment: Environment, who_is: WhoIs) -> tuple[str, ...]:
    """Who has approved with effect for an environment, once each: by its policy of now, and their roles of now."""
    scope = Scope(environment.project, environment.key)
    counting = [
        each.actor
        for each in progress.approvals
        if each.actor not in progress.authors
        and counts_as_approver(environment.approval_policy, as_of_now(each.actor, _principal(each), who_is), scope)
    ]
    return tuple(dict.fromkeys(counting))


def lacking(progress: Agreed, environment: Environment, events: Sequence[Event], *, who_is: WhoIs) -> str:
    """What an environment still asks for before this may happen there; "" for nothing."""
    if not needs_approval(environment, events):
        return ""
    wanted, have = environment.approval_policy.approvals, approvers(progress, environment, who_is)
    if len(have) >= wanted:
        return ""
    named = f" ({', '.join(have)})" if have else ""
    return f"{environment.flag_set} asks for {counted(wanted, 'approval')} and has {len(have)}{named}"


def may_approve(progress: Agreed, principal: Principal, environments: Mapping[str, Environment]) -> str:
    """What is in the way of somebody's approval; "" for nothing."""
    if principal.actor in progress.authors:
        return (
            f"{principal.actor} asked for this change, and one's own approval does not count; somebody else must agree"
        )
    if any(
        counts_as_approver(each.approval_policy, principal, Scope(each.project, each.key))
        for each in environments.values()
    ):
        return ""
    places = ", ".join(sorted(environments)) or "none"
    return f"{principal.actor} is not among those whose approval counts in: {places}"


def may_reject(principal: Principal, project: str, environments: Sequence[str]) -> bool:
    """Whether somebody may say no: who may approve in any of the places, even where it would not count."""
    return any(principal.may(Action.APPROVE, Scope(project, each)) for each in environments)


def _principal(approval: Approval) -> Principal:
    return Principal(approval.actor, approval.grants)
