"""Know who moves which flag at present, and keep others from changing it where that was asked for.

One at a time moves a flag in an environment: two releases of one flag would each take back what the other did.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from server.core.access import Action, Principal, Scope
from server.core.errors import Refused
from server.core.events import Event, FlagUpdated
from server.core.policies import is_kill
from server.core.releases.progress import GOING
from server.store import release_tables as tables
from server.store.statements import Statement

STOPPED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a release wants to be looked at that has to look at its flags first: somebody has turned one off."""

_LOCKS: Final = tables.flag_locks.c
_RELEASES: Final = tables.releases.c
_ALL: Final = Statement(
    select(_LOCKS.flag, _LOCKS.holder, _LOCKS.locks).where(
        _LOCKS.project == bindparam("own_project"), _LOCKS.environment == bindparam("own_environment")
    )
)
_ONE: Final = Statement(
    select(_LOCKS.flag, _LOCKS.holder, _LOCKS.locks).where(
        _LOCKS.project == bindparam("own_project"),
        _LOCKS.environment == bindparam("own_environment"),
        _LOCKS.flag == bindparam("own_flag"),
    )
)
ONE_BY_ONE_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Lock:
    """Who moves a flag, and whether others are kept from it."""

    holder: str
    """As causes name it: `release:<id>`."""

    locks: bool


@dataclass(frozen=True, slots=True)
class Key:
    """What a commit has in hand to change locked flags."""

    holder: str = ""
    """Itself one of those that move flags; never taken from what a caller wrote."""

    bypasser: Principal | None = None
    """Who steps over locks in an emergency, where they may and gave a reason."""

    only_tries: bool = False
    """Nothing is kept of it, so nobody is in anybody's way."""


NO_KEY: Final = Key()


def take_locks(
    connection: Connection, project: str, *, subjects: Collection[tuple[str, str]], holder: str, locks: bool
) -> None:
    """Note that somebody moves these flags from now on, (environment, flag) each.

    Errors: Refused when somebody else does.
    """
    for environment, flag in subjects:
        other = find_lock(connection, project, environment=environment, flag=flag)
        if other is not None and other.holder != holder:
            raise Refused(f"{named(other.holder)} moves flag {flag!r} in {environment!r} already; end that one first")
    give_back_locks(connection, project, holder=holder)
    rows = [
        {"project": project, "environment": environment, "flag": flag, "holder": holder, "locks": locks}
        for environment, flag in subjects
    ]
    if rows:
        connection.execute(insert(tables.flag_locks), rows)


def give_back_locks(connection: Connection, project: str, *, holder: str) -> None:
    """Note that somebody moves no flag any more."""
    connection.execute(delete(tables.flag_locks).where(_LOCKS.project == project, _LOCKS.holder == holder))


def find_lock(connection: Connection, project: str, *, environment: str, flag: str) -> Lock | None:
    """Who moves a flag; None when nobody does."""
    row = _ONE.first(connection, own_project=project, own_environment=environment, own_flag=flag)
    return None if row is None else Lock(row[1], bool(row[2]))


class Why(Protocol):
    """As much of a commit's cause as is asked here."""

    @property
    def project(self) -> str:
        """Where it is made."""

    @property
    def key(self) -> Key:
        """What it has in hand."""


def check_locks(connection: Connection, why: Why, environment: str, events: Sequence[Event]) -> tuple[str, ...]:
    """What whoever changes these flags should know: that something else moves them, too.

    A kill is never held up. Errors: Refused when a flag is locked.
    """
    if why.key.only_tries:
        return ()
    touched = {event.key for event in events if event.kind == "flag" and not is_kill(event)}
    warnings: list[str] = []
    for flag, lock in sorted(_locks(connection, why.project, environment, flags=touched).items()):
        if lock.holder == why.key.holder:
            continue
        if lock.locks and not _may_step_over(why.key, Scope(why.project, environment)):
            raise Refused(
                f"{named(lock.holder)} runs on flag {flag!r} in {environment!r} and keeps others from changing it; "
                "end it first, turn the flag off where something burns, or bypass the lock with a reason"
            )
        warnings.append(f"{named(lock.holder)} runs on flag {flag} in {environment} and goes on with it")
    return tuple(warnings)


def stop_movers(connection: Connection, why: Why, environment: str, events: Sequence[Event]) -> None:
    """Have whatever moves a flag that somebody turns off look at that at once, and before anything else.

    It is a release by now: nothing else moves flags for long.
    """
    if why.key.only_tries:
        return
    stopped = {
        each.key for each in events if isinstance(each, FlagUpdated) and each.before.is_on and not each.after.is_on
    }
    holders = {lock.holder for lock in _locks(connection, why.project, environment, flags=stopped).values()}
    for holder in sorted(holders - {why.key.holder}):
        mine = (_RELEASES.project == why.project) & (_RELEASES.id == holder.partition(":")[2])
        going = _RELEASES.state.in_([state.value for state in GOING])
        connection.execute(update(tables.releases).where(mine, going).values(next_at=STOPPED))


def _may_step_over(key: Key, scope: Scope) -> bool:
    return key.bypasser is not None and key.bypasser.may(Action.BYPASS, scope)


def _locks(connection: Connection, project: str, environment: str, *, flags: Collection[str]) -> Mapping[str, Lock]:
    if not flags:
        return {}
    here = {"own_project": project, "own_environment": environment}
    if len(flags) <= ONE_BY_ONE_MAX:
        rows = [row for flag in flags for row in _ONE.all(connection, **here, own_flag=flag)]
    else:
        rows = [row for row in _ALL.all(connection, **here) if row[0] in flags]
    return {flag: Lock(holder, bool(locks)) for flag, holder, locks in rows}


def named(holder: str) -> str:
    """A holder as people read it: `release rel_0123456789`."""
    return holder.replace(":", " ", 1)
