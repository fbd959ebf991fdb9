"""Ask who may do what with a launch plan, by the environments that it reaches."""

from sqlalchemy import Connection

from server.core.access import Action, Principal, Scope
from server.core.launch_plans.plan import Plan
from server.operations.writes import require
from server.store.environments import read_environment


def require_places(connection: Connection, project: str, plan: Plan) -> None:
    """Refuse a plan for environments that there are not. Errors: NotFound."""
    for key in plan.environments:
        read_environment(connection, project=project, environment=key)


def require_all(principal: Principal, project: str, plan: Plan) -> None:
    """Refuse whoever may not do all that a plan does. Errors: PermissionDenied."""
    for item in plan.items:
        for key in sorted(item.environments):
            require(principal, item.action, Scope(project, key))


def require_each(principal: Principal, action: Action, project: str, plan: Plan) -> None:
    """Refuse whoever may not do something everywhere that a plan reaches. Errors: PermissionDenied."""
    for key in plan.environments:
        require(principal, action, Scope(project, key))


def may_each(principal: Principal, action: Action, project: str, plan: Plan) -> bool:
    """Whether somebody may do something everywhere that a plan reaches."""
    return all(principal.may(action, Scope(project, key)) for key in plan.environments)


def may_some(principal: Principal, action: Action, project: str, plan: Plan) -> bool:
    """Whether somebody may do something in one of the places that a plan reaches."""
    return any(principal.may(action, Scope(project, key)) for key in plan.environments)
