"""Say who calls, and what each role may do where."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a principal may do; see ALLOWED for what each contains."""

    EVALUATE_CLIENT = "evaluate-client"
    """Values for a client that anybody may take apart: never rules, segments or targets."""

    EVALUATE = "evaluate"
    """Values, and whole flag sets for in-process evaluation."""

    READ = "read"
    EDIT = "edit"
    APPROVE = "approve"
    OPERATE = "operate"
    """The kill switch, and signals that let guards roll back."""

    SUBSCRIBE = "subscribe"
    """Read, and have webhooks sent: for automation tools that subscribe themselves."""

    BYPASS = "bypass"
    """Change a protected environment without the approvals it asks for, in an emergency; beside `edit`."""

    ADMIN = "admin"
    """Everything but to bypass approvals, which must be given by name."""


class Action(StrEnum):
    """What a method does, as far as access is concerned."""

    PUBLIC = "public"
    """For everyone: health."""

    IDENTIFY = "identify"
    """What every principal may ask of itself."""

    EVALUATE = "evaluate"
    SYNC = "sync"
    """Definitions for in-process evaluation, rules and segments included."""

    READ = "read"
    EDIT = "edit"
    PROPOSE = "propose"
    """Ask for a change that others approve, and comment on one."""

    APPROVE = "approve"
    KILL = "kill"
    BYPASS = "bypass"
    """Change a protected environment without the approvals that it asks for."""

    RECORD = "record"
    """Tell what was observed of flags' values."""

    SIGNAL = "signal"
    """Tell that something goes wrong, or goes on, outside: what guards listen to."""

    SUBSCRIBE = "subscribe"
    """Have what happens sent elsewhere, for as long as nobody ends it: more than to read it."""

    ADMINISTER = "administer"


ALLOWED: Final[dict[Role, frozenset[Action]]] = {
    Role.EVALUATE_CLIENT: frozenset({Action.EVALUATE}),
    Role.EVALUATE: frozenset({Action.EVALUATE, Action.SYNC, Action.RECORD}),
    Role.READ: frozenset({Action.EVALUATE, Action.SYNC, Action.READ}),
    Role.EDIT: frozenset(
        {Action.EVALUATE, Action.SYNC, Action.READ, Action.EDIT, Action.PROPOSE, Action.KILL}
        | {Action.RECORD, Action.SIGNAL}
    ),
    Role.APPROVE: frozenset({Action.EVALUATE, Action.SYNC, Action.READ, Action.PROPOSE, Action.APPROVE}),
    Role.OPERATE: frozenset({Action.KILL, Action.SIGNAL}),
    Role.SUBSCRIBE: frozenset({Action.READ, Action.SUBSCRIBE}),
    Role.BYPASS: frozenset({Action.BYPASS}),
    Role.ADMIN: frozenset(Action) - {Action.BYPASS},
}
"""Role -> actions. PUBLIC and IDENTIFY need no role; what stands nowhere is refused."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where something is done. Empty names say a wider place: no project is the server, no environment the project."""

    project: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in a place. None is every place of that level, and a value of its own: it is never the name ""."""

    role: Role
    project: str | None = None
    environment: str | None = None

    def covers(self, scope: Scope) -> bool:
        """Whether the grant reaches a place.

        A grant for one environment reaches neither its project nor the server, one for a project not the server.
        """
        return self.project in (None, scope.project) and self.environment in (None, scope.environment)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls."""

    actor: str
    """As the audit trail names them: `token:<public id>`, `oidc:<subject>`, `certificate:<name>`, `open`."""

    grants: tuple[Grant, ...] = ()

    def may(self, action: Action, scope: Scope) -> bool:
        """Whether one of the grants allows an action in a place; nothing is allowed by default."""
        return action in (Action.PUBLIC, Action.IDENTIFY) or any(
            action in ALLOWED[grant.role] and grant.covers(scope) for grant in self.grants
        )

    def may_within(self, action: Action, project: str) -> bool:
        """Whether one of the grants allows an action in a project or in any of its environments."""
        return any(action in ALLOWED[grant.role] and grant.project in (None, project) for grant in self.grants)

    def roles(self, scope: Scope) -> frozenset[Role]:
        """The roles that reach a place."""
        return frozenset(grant.role for grant in self.grants if grant.covers(scope))


OPEN: Final = Principal("open", (Grant(Role.ADMIN), Grant(Role.BYPASS)))
"""Whoever calls a server that asks nobody who they are."""


class Asking(StrEnum):
    """Who is asked who they are."""

    NOBODY = "nobody"
    """Everyone who reaches the server may do everything."""

    MANAGERS = "managers"
    """Everyone may evaluate; who does more must say who they are."""

    EVERYONE = "everyone"


STRANGERS: Final[dict[Asking, Principal | None]] = {
    Asking.NOBODY: OPEN,
    Asking.MANAGERS: Principal("anonymous", (Grant(Role.EVALUATE),)),
    Asking.EVERYONE: None,
}
"""Whom a caller without credentials stands for; None: nobody, the call is refused."""


def allowing(action: Action) -> Iterator[Role]:
    """The roles that allow an action, for messages."""
    return (role for role in Role if action in ALLOWED[role])
