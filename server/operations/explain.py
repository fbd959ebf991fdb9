"""Evaluate a stored flag without a server, and tell why it gives what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from server.core.definitions.problems import suggestion
from server.core.evaluation.explain import Step, explain
from server.core.json import Json
from server.core.resolution import ErrorCode, Resolution
from server.live.loader import load_snapshot
from server.operations.flagsets import read_stored
from server.store.engine import reading


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, what gave it, and the steps that led to it when they were asked for."""

    resolution: Resolution
    flag_set: str
    revision: int
    hint: str = ""
    steps: tuple[Step, ...] = ()


def evaluate_stored(
    engine: Engine, key: str, *, project: str, environment: str, context: Mapping[str, Json], now: int
) -> Answer:
    """Evaluate a flag as a server would. Errors: NotFound when there is no such environment."""
    with reading(engine) as connection:
        snapshot = load_snapshot(connection, project=project, environment=environment)
    resolution = snapshot.resolve(key, context, now)
    return Answer(resolution, snapshot.flag_set, snapshot.revision, _hint(resolution, snapshot.flags))


def explain_stored(
    engine: Engine, key: str, *, project: str, environment: str, context: Mapping[str, Json], now: int
) -> Answer:
    """Evaluate a flag and tell each step. Errors: NotFound; InvalidDefinition when stored documents are damaged."""
    flag_set, revision = read_stored(engine, project=project, environment=environment)
    explanation = explain(flag_set, key, context, now=now)
    hint = _hint(explanation.resolution, flag_set.flags)
    return Answer(explanation.resolution, flag_set.environment.flag_set, revision, hint, explanation.steps)


def _hint(resolution: Resolution, flags: Mapping[str, object]) -> str:
    if resolution.error_code is not ErrorCode.FLAG_NOT_FOUND:
        return ""
    return suggestion(resolution.flag_key, flags).removeprefix("; ")
