"""Decide who may do something with a hook: by its project, or by the environments whose events it gets."""

from server.core.access import Action, Principal, Scope
from server.operations.writes import require
from webhooks.filters import Filter


def may_with(principal: Principal, action: Action, project: str, filter: Filter) -> bool:
    """Whether a principal may do something with a hook of this filter.

    One that names no environment gets the events of all of them, and those of the project itself.
    """
    if principal.may(action, Scope(project)):
        return True
    named = filter.environments
    return bool(named) and all(principal.may(action, Scope(project, each)) for each in named)


def require_with(principal: Principal, action: Action, project: str, filter: Filter) -> None:
    """Refuse who may not. Errors: PermissionDenied, naming the place."""
    if may_with(principal, action, project, filter):
        return
    for each in filter.environments:
        require(principal, action, Scope(project, each))
    require(principal, action, Scope(project))
