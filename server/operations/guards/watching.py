"""Say what is new of guards and roll-back policies: verdicts and states that are others, and what came of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Engine

from server.core.guards.machine import Happening, State
from server.core.guards.verdicts import Verdict
from server.store.audit import last_sequence
from server.store.engine import reading
from server.store.guard_evaluations import Evaluation, list_evaluations, next_number
from server.store.guards import StoredGuard, list_guards
from server.store.projects import read_project
from server.store.rollback_policies import StoredPolicy, list_policies

EVALUATIONS_MAX: Final = 1_000
"""Of one look, the newest."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which guards and policies somebody watches."""

    project: str
    environment: str = ""
    """Only there."""

    guards: Collection[str] = ()
    """Only these, and the policies that they are triggers of."""


@dataclass(frozen=True, slots=True)
class Known:
    """What somebody who watches has been told."""

    number: int
    """Of the last evaluation."""

    guards: Mapping[str, tuple[int, Verdict | None]] = field(default_factory=dict)
    """Key -> version and verdict."""

    policies: Mapping[str, tuple[int, State]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """What is not as it was told."""

    known: Known
    """With this."""

    guards: tuple[StoredGuard, ...] = ()
    policies: tuple[StoredPolicy, ...] = ()
    gone_guards: tuple[str, ...] = ()
    gone_policies: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    """The oldest first: those after which a verdict was another one, and all of which something came."""

    def __bool__(self) -> bool:
        return any((self.guards, self.policies, self.gone_guards, self.gone_policies, self.evaluations))


def last(engine: Engine, project: str) -> int:
    """A number that is a higher one whenever something may be new. Errors: StoreUnavailable."""
    with reading(engine) as connection:
        return last_sequence(connection, project) + next_number(connection, project)


def look(engine: Engine, wanted: Wanted, known: Known | None) -> News:
    """What is new; all of it, and nothing of what has happened, for who knows nothing. Errors: NotFound."""
    with reading(engine) as connection:
        read_project(connection, wanted.project)
        guards = {each.guard.key: each for each in list_guards(connection, wanted.project) if _is_wanted(each, wanted)}
        policies = {
            each.policy.key: each for each in list_policies(connection, wanted.project) if _is_about(each, wanted)
        }
        number = next_number(connection, wanted.project) - 1
        happened: list[Evaluation] = []
        if known is not None and number > known.number:
            limit = min(EVALUATIONS_MAX, number - known.number)
            happened = list_evaluations(connection, wanted.project, limit=limit)[::-1]
    told = Known(
        number,
        {key: (each.version, _verdict(each)) for key, each in guards.items()},
        {key: (each.version, each.progress.state) for key, each in policies.items()},
    )
    before = known or Known(number)
    return News(
        told,
        tuple(each for key, each in guards.items() if before.guards.get(key) != told.guards[key]),
        tuple(each for key, each in policies.items() if before.policies.get(key) != told.policies[key]),
        tuple(key for key in before.guards if key not in guards),
        tuple(key for key in before.policies if key not in policies),
        _telling([each for each in happened if each.number > before.number], before, told),
    )


def _telling(happened: Collection[Evaluation], before: Known, now: Known) -> tuple[Evaluation, ...]:
    said = {key: verdict for key, (_, verdict) in before.guards.items()}
    told = []
    for each in happened:
        guard, verdict = each.guard, None if each.judgement is None else each.judgement.verdict
        is_other = verdict is not None and guard in now.guards and said.get(guard) is not verdict
        if is_other:
            said[guard] = verdict
        came_of_it = bool(each.outcome) or each.event.happening is not Happening.JUDGED
        if is_other or (came_of_it and each.policy in now.policies):
            told.append(each)
    return tuple(told)


def _is_wanted(stored: StoredGuard, wanted: Wanted) -> bool:
    here = not wanted.environment or stored.guard.environment == wanted.environment
    return here and (not wanted.guards or stored.guard.key in wanted.guards)


def _is_about(stored: StoredPolicy, wanted: Wanted) -> bool:
    here = not wanted.environment or stored.policy.environment == wanted.environment
    names = {each.name for each in stored.policy.triggers}
    return here and (not wanted.guards or not names.isdisjoint(wanted.guards))


def _verdict(stored: StoredGuard) -> Verdict | None:
    return None if stored.last is None else stored.last.judgement.verdict
