"""Evaluate a stored flag without a server, and tell why it gives what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from server.core.definitions.problems import Problems, suggestion
from server.core.evaluation.explain import Step, explain
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.resolution import ErrorCode, Resolution
from server.live.loader import compile_documents, load_with_references
from server.store.engine import reading
from server.store.environments import read_environment
from server.store.flagsets import StoredFlagSet, load_documents
from server.store.mapping import parse_flag, parse_segment


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, what gave it, and the steps that led to it when they were asked for."""

    resolution: Resolution
    flag_set: str
    revision: int
    hint: str = ""
    steps: tuple[Step, ...] = ()


def evaluate_stored(
    engine: Engine,
    key: str,
    *,
    project: str,
    environment: str,
    context: Mapping[str, Json],
    now: int,
    explained: bool = False,
) -> Answer:
    """Evaluate a flag as a server would, reading only it and what it refers to; `explained` tells each step.

    Errors: NotFound when there is no such environment, StoreUnavailable, StoreCorrupt.
    """
    with reading(engine) as connection:
        where = read_environment(connection, project=project, environment=environment).environment
        stored = load_with_references(connection, where, [key])
        resolution = compile_documents(stored).resolve(key, context, now)
        return Answer(
            resolution,
            where.flag_set,
            stored.revision,
            hint=_hint(connection, stored, resolution),
            steps=steps_of(stored, resolution, context, now=now) if explained else (),
        )


def steps_of(
    stored: StoredFlagSet, resolution: Resolution, context: Mapping[str, Json], *, now: int
) -> tuple[Step, ...]:
    """The steps that led to an answer of a stored flag set."""
    problems = Problems()
    flags = {key: parse_flag(key, document, problems=problems) for key, document in stored.flags.items()}
    segments = {key: parse_segment(key, document, problems=problems) for key, document in stored.segments.items()}
    key = resolution.flag_key
    if key in flags and flags[key] is None:
        return (Step("flag", "damaged in the database", resolution.error_message),)
    readable = FlagSet(
        stored.environment,
        {name: flag for name, flag in flags.items() if flag is not None},
        {name: segment for name, segment in segments.items() if segment is not None},
    )
    return explain(readable, key, context, now=now).steps


def _hint(connection: Connection, stored: StoredFlagSet, resolution: Resolution) -> str:
    if resolution.error_code is not ErrorCode.FLAG_NOT_FOUND:
        return ""
    where = stored.environment
    known = load_documents(connection, project=where.project, environment=where.key, segments=()).flags
    return suggestion(resolution.flag_key, known).removeprefix("; ")
