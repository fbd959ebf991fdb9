"""Build snapshots: compile a whole flag set, or again only what a change touched."""

from collections.abc import Collection, Mapping

from server.core.environments import Environment
from server.core.errors import InvalidDefinition
from server.core.evaluation.compiler import compile_flag, quarantine
from server.core.evaluation.lowering import lower_flag
from server.core.evaluation.snapshot import CompiledFlag, Snapshot
from server.core.flags import FlagDefinition
from server.core.flagsets import FlagSet
from server.core.segments import Segment


def build_snapshot(flag_set: FlagSet, *, revision: int, broken: Mapping[str, str] | None = None) -> Snapshot:
    """Compile every flag of a set; `broken` says of flags that could not even be read what is wrong with them."""
    compiled = compile_flags(flag_set, flag_set.flags.keys())
    for key, why in (broken or {}).items():
        compiled[key] = quarantine(key, why)
    return Snapshot(environment=flag_set.environment, revision=revision, flags=compiled)


def compile_flags(flag_set: FlagSet, keys: Collection[str]) -> dict[str, CompiledFlag]:
    """Compile some flags of a set; one that cannot be compiled is quarantined."""
    return {
        key: compile_one(
            flag_set.flags[key], flags=flag_set.flags, segments=flag_set.segments, environment=flag_set.environment
        )
        for key in keys
    }


def compile_one(
    definition: FlagDefinition,
    *,
    flags: Mapping[str, FlagDefinition],
    segments: Mapping[str, Segment],
    environment: Environment,
) -> CompiledFlag:
    """Compile one flag; quarantined when that is impossible, so that the rest of its set serves."""
    try:
        lowered = lower_flag(definition, flags=flags, segments=segments, bucketing=environment.bucketing)
        return compile_flag(lowered, set_metadata=environment.metadata, sync=environment.sync)
    except InvalidDefinition as refused:
        return quarantine(definition.key, str(refused.problems[0].message), type_=definition.flag.type)
    except (RecursionError, MemoryError, ValueError, TypeError, AttributeError, LookupError) as error:
        # Validation refuses all of these; they can only come from a row written behind our back.
        return quarantine(definition.key, f"cannot be compiled ({type(error).__name__})", type_=definition.flag.type)
