"""Decide whether a caller may do something, and where; the same for every transport."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.core.access import Action, Principal, Scope, allowing
from server.core.errors import NotFound, PermissionDenied, Unauthenticated, Unrecognised
from server.core.selectors import parse_selector
from server.live.callers import Caller
from server.live.holder import Holder
from server.live.sessions import Sessions
from server.operations.evaluate import find, select
from server.operations.identity import Identity
from server.operations.pace import Pace
from server.operations.writes import require


@dataclass(frozen=True, slots=True)
class Gate:
    """What access is decided from."""

    identity: Identity
    holder: Holder
    sessions: Sessions
    pace: Pace | None = None
    """How much each token, or whoever else can be told apart, may ask; strangers are held to their address's."""

    async def entered(self, enter: Callable[[], Caller]) -> Caller:
        """Whom `enter` lets in, which is asked again after a look at the database where a token was not known.

        So a token that another process made a moment ago is good at once. Errors: as `enter`; StoreUnavailable.
        """
        try:
            return enter()
        except Unrecognised as unknown:
            if not await self.identity.look(unknown):
                raise
        try:
            return enter()
        except Unrecognised as unknown:
            self.identity.note_in_vain(unknown)
            raise

    def admit(self, action: Action, authorization: str | None, names: Callable[[], Sequence[str]] = tuple) -> Caller:
        """Let a caller in who may do something somewhere; where exactly is asked next.

        Errors: Unauthenticated; PermissionDenied, naming the roles that would help; Limited; StoreUnavailable while it
        cannot be told.
        """
        caller = self.identity.caller(authorization, names)
        if self.pace is not None and caller is not self.identity.stranger:
            self.pace.require(caller.principal.actor)
        if action in caller.everywhere:
            return caller
        if caller is self.identity.stranger:
            raise Unauthenticated(
                f"this server asks who may {action.value}: send `authorization: Bearer TOKEN`; "
                "`flagstaff token create` makes one"
            )
        if action not in caller.somewhere:
            roles = " or ".join(f"`{role}`" for role in allowing(action))
            raise PermissionDenied(
                f"{caller.principal.actor} may not {action.value} anywhere; it needs the role {roles}"
            )
        return caller

    def check_set(self, caller: Caller, action: Action, *, name: str = "", selector: str = "") -> None:
        """Refuse who may not do something with a flag set, by its name or a flagd selector; "" is the default one.

        Errors: PermissionDenied; NotFound; InvalidRequest for a selector that is none; StoreUnavailable.
        """
        if action in caller.everywhere:
            return
        try:
            snapshot = select(self.holder, selector)[0] if selector else find(self.holder, name)
        except NotFound:
            # The usual message names the sets that there are, which this caller need not know of.
            raise _hidden(caller.principal, action, name=name, selector=selector) from None
        if (action, snapshot.flag_set) not in caller.found:
            require(caller.principal, action, Scope(snapshot.environment.project, snapshot.environment.key))
            caller.found.add((action, snapshot.flag_set))


def _hidden(principal: Principal, action: Action, *, name: str, selector: str) -> Exception:
    parsed = parse_selector(selector)
    named = name or (parsed.value if parsed is not None else "")
    shown = repr(named[:160]) if named else "the default one"
    project, _, environment = named.partition("/")
    if named and principal.may(action, Scope(project, environment)):
        return NotFound(f"flag set {shown} does not exist")
    return PermissionDenied(f"{principal.actor} has no role in flag set {shown}, or there is no such set")
