"""The compiled form of one flag set at one revision, which evaluation reads and nobody edits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from server.core.environments import Environment
from server.core.flags import ValueType
from server.core.resolution import ErrorCode, Reason, Resolution

Evaluator: TypeAlias = Callable[[Mapping[str, Any], int], Resolution]
"""(context, now) -> Resolution. Never raises.

Shapes: context holds JSON values by attribute name. Units: now is whole seconds since 1970, UTC.
"""


@dataclass(frozen=True, slots=True)
class Clock:
    """The instants at which a flag's answers may change. Units: whole seconds since 1970, UTC."""

    instants: tuple[int, ...] = ()
    """Ascending. The answer may be another one from each of these on, and from the second after it."""

    every_second: bool = False
    """The rule computes with the time, so its instants are not known."""

    def next_after(self, now: int) -> int | None:
        """The next second at which to look again; None when there is none."""
        if self.every_second:
            return now + 1
        return next((instant for instant in self.instants if instant > now), None)


@dataclass(frozen=True, slots=True)
class CompiledFlag:
    """One flag, ready to evaluate."""

    key: str
    type: ValueType | None
    """None when the stored definition is too broken to have one."""

    evaluate: Evaluator
    reads: frozenset[str] | None
    """The context attributes that `evaluate` looks at; None means it may look at any."""

    static: Resolution | None = None
    """The one answer of a flag that looks at neither context nor clock."""

    has_default: bool = True
    """False: there is no default variant; where nothing matches, the caller's own default holds."""

    references: frozenset[tuple[str, str]] = frozenset()
    """("flag", key) and ("segment", key) that this flag was compiled from, all the way down."""

    exported: bytes = b""
    """The flag as flagd's file format has it, compact JSON in ASCII, with the flag set's metadata merged in. Empty
    for a quarantined flag, for one that needs a large segment, which nobody is given, and where sync is off."""

    digest: bytes = b""
    """Tells apart what the flag may answer, its metadata included, whoever is sent it; b"" for a quarantined flag."""

    clock: Clock | None = None
    """When the flag's answers may change by themselves; None when it does not look at the clock."""

    quarantine: str = ""
    """Why this flag answers ERROR to everything; "" for a sound one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All flags of one environment at one revision."""

    environment: Environment
    revision: int
    flags: Mapping[str, CompiledFlag]
    wire: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Encoded parts of replies that depend on the revision alone, filled by the transport."""

    @property
    def flag_set(self) -> str:
        """`<project>/<environment>`."""
        return self.environment.flag_set

    def resolve(self, key: str, context: Mapping[str, Any], now: int) -> Resolution:
        """Evaluate one flag. Never raises: what goes wrong is in the answer."""
        flag = self.flags.get(key)
        return missing(self.flag_set, key) if flag is None else flag.evaluate(context, now)


MISSING_KEY_CHARS: Final = 80


def missing(flag_set: str, key: str) -> Resolution:
    """Answer for a flag that the flag set does not have; the key is cut to a readable length."""
    shown = key if len(key) <= MISSING_KEY_CHARS else key[: MISSING_KEY_CHARS - 3] + "..."
    return Resolution(
        flag_key=key,
        type=None,
        value=None,
        variant=None,
        reason=Reason.ERROR,
        error_code=ErrorCode.FLAG_NOT_FOUND,
        error_message=f"flag {shown!r} is not in flag set {flag_set!r}; check its key, or choose another set",
    )
