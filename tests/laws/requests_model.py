"""What change requests are to do, in plain dictionaries: a slow, obvious model to hold the real ones against.

One environment asks for approvals and the other one does not. A refused call changes nothing, but for what it finds
out: that a request is stale, or lacks approvals that it had.
"""

from copy import deepcopy
from dataclasses import dataclass, field

PRODUCTION, STAGING = "production", "staging"
WAITING = ("OPEN", "APPROVED")
REOPENING = (*WAITING, "REJECTED", "STALE")

Ask = tuple[str, str, str]
"""(default or owner or enabled, flag, value)."""


class Refused(Exception):
    """The call must be refused."""


@dataclass
class Flag:
    """A flag, and what changes of it count."""

    default: str = "on"
    owner: str = ""
    enabled: str = "yes"
    versions: dict[str, int] = field(default_factory=lambda: {PRODUCTION: 0, STAGING: 0})


@dataclass
class Request:
    """A change request."""

    ask: Ask
    authors: set[str]
    base: dict[str, int]
    """Environment -> the flag's version there by which it was asked for."""

    state: str = "OPEN"
    approvals: list[str] = field(default_factory=list)


@dataclass
class Model:
    """One project, and who may what in it."""

    roles: dict[str, set[str]]
    flags: dict[str, Flag]
    needed: int = 1
    """Approvals that production asks for."""

    requests: dict[int, Request] = field(default_factory=dict)

    def copy(self) -> "Model":
        """A model that can be changed by itself."""
        return deepcopy(self)

    def write(self, who: str, ask: Ask, *, bypass: bool, reason: str) -> str:
        """Ask for a change by the service that makes it; what comes of it."""
        self._require(who, "edit")
        if not self._differs(ask):
            return "unchanged"
        if self.needed and not bypass:
            self.requests[len(self.requests)] = Request(ask, {who}, self._versions(ask))
            return "requested"
        if self.needed:
            refuse_if("bypass" not in self.roles[who] or not reason)
        self._change(ask)
        return "applied"

    def kill(self, who: str, flag: str) -> str:
        """Turn a flag off, whatever production asks for."""
        self._require(who, "edit")
        if self.flags[flag].enabled == "no":
            return "unchanged"
        self._change(("enabled", flag, "no"))
        return "applied"

    def approve(self, who: str, number: int) -> str:
        """Say yes to somebody else's change."""
        self._require(who, "approve")
        request = self._in(number, WAITING)
        if self._outdated(request):
            return "outdated"
        refuse_if(who in request.authors or not self.needed or not self._differs(request.ask))
        request.approvals = [*(each for each in request.approvals if each != who), who]
        if not self._lacking(request):
            request.state = "APPROVED"
        return "applied"

    def reject(self, who: str, number: int) -> str:
        """Say no."""
        self._require(who, "approve")
        self._in(number, (*WAITING, "STALE")).state = "REJECTED"
        return "applied"

    def withdraw(self, who: str, number: int) -> str:
        """For who asked for it."""
        request = self._in(number, REOPENING)
        refuse_if(who not in request.authors)
        request.state = "WITHDRAWN"
        return "applied"

    def revise(self, who: str, number: int, ask: Ask | None) -> str:
        """Ask for something else or, without that, for the same against what is there now."""
        self._require(who, "edit")
        request = self._in(number, REOPENING)
        request.ask = ask or request.ask
        request.base = self._versions(request.ask)
        request.authors.add(who)
        request.approvals, request.state = [], "OPEN"
        return "applied"

    def apply(self, who: str, number: int, *, bypass: bool, reason: str) -> str:
        """Make the change."""
        self._require(who, "edit")
        request = self._in(number, WAITING)
        if self._outdated(request):
            return "outdated"
        differs = self._differs(request.ask)
        if differs and self._lacking(request):
            if not bypass:
                request.state = "OPEN"
                return "lacking"
            refuse_if("bypass" not in self.roles[who] or not reason)
        request.state = "APPLIED"
        if differs:
            self._change(request.ask)
        return "applied" if differs else "unchanged"

    def ask_for(self, approvals: int) -> str:
        """Production asks for another number of approvals."""
        if approvals == self.needed:
            return "unchanged"
        self.needed = approvals
        return "applied"

    def _differs(self, ask: Ask) -> bool:
        what, flag, value = ask
        return bool(getattr(self.flags[flag], what) != value)

    def _versions(self, ask: Ask) -> dict[str, int]:
        """Of all that it would change and, where that is nothing, of what it asks for."""
        what, flag, _ = ask
        places = (PRODUCTION, STAGING) if what == "owner" else (PRODUCTION,)
        return {place: self.flags[flag].versions[place] for place in places}

    def _change(self, ask: Ask) -> None:
        what, flag, value = ask
        setattr(self.flags[flag], what, value)
        for place in self._versions(ask):
            self.flags[flag].versions[place] += 1

    def _outdated(self, request: Request) -> bool:
        if request.base == self._versions(request.ask):
            return False
        request.state, request.approvals = "STALE", []
        return True

    def _lacking(self, request: Request) -> bool:
        return len([each for each in request.approvals if each not in request.authors]) < self.needed

    def _in(self, number: int, states: tuple[str, ...]) -> Request:
        refuse_if(self.requests[number].state not in states)
        return self.requests[number]

    def _require(self, who: str, role: str) -> None:
        refuse_if(role not in self.roles[who])


def refuse_if(condition: bool) -> None:
    """Refuse a call."""
    if condition:
        raise Refused
