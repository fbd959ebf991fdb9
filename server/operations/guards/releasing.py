"""Let guards and releases work together: what guards say to releases, and releases that policies take back."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from server.core.access import Action, Principal
from server.core.errors import NotFound
from server.core.guards.policies import Aim, Policy
from server.core.releases.plan import BackTo, Target
from server.core.releases.progress import Act, Command, Judged
from server.operations.releases.going import By, happen
from server.operations.releases.moving import running_on
from server.operations.writes import Write, Writer
from server.store.guards import read_guard
from server.store.releases import read_release
from server.store.saving import Cause

_BACK_TO: Final = {
    Aim.ANCHOR: BackTo.ANCHOR,
    Aim.OFF: BackTo.OFF,
    Aim.STEP: BackTo.STEP,
    Aim.FREEZE: BackTo.FREEZE,
}


def judgements(
    connection: Connection, project: str, guards: Collection[tuple[str, str]], since: datetime
) -> Iterator[Judged]:
    """What guards said last, of (environment, guard) each; nothing of one that said nothing since an instant."""
    for environment, key in sorted(guards):
        try:
            stored = read_guard(connection, project, key)
        except NotFound:
            continue
        last = stored.last
        if last is None or last.at < since or stored.guard.environment != environment:
            continue
        said = last.judgement
        evaluation = f"guard:{key}@{last.at.isoformat()}"
        yield Judged(key, said.verdict, said.text, said.value, said.threshold, said.sample_count, evaluation)


def releases_on(connection: Connection, project: str, environment: str, flags: Sequence[str]) -> dict[str, list[str]]:
    """Release -> those of some flags that it moves now."""
    found: dict[str, list[str]] = {}
    for flag in flags:
        id = running_on(connection, project, environment, flag)
        if id:
            found.setdefault(id, []).append(flag)
    return found


def take_release_back(
    connection: Connection, id: str, policy: Policy, why: Cause, *, writer: Writer, principal: Principal
) -> int:
    """Take a running release back, as far as a policy aims; gives the environment's revision, 0 when it stays.

    Errors: Refused when the release cannot go there; as a commit.
    """
    stored = read_release(connection, project=why.project, id=id)
    target = Target(_BACK_TO[policy.aim], max(0, policy.step - 1))
    command = Command(Act.ROLL_BACK, why.actor, why.reason, target=target)
    by = By(Write(principal, Action.EDIT, why.now, reason=why.reason), why.actor, why.cause)
    went = happen(writer, connection, stored, command, by)
    return went.written.revisions.get(policy.environment, 0)
