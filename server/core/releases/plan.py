"""Say what a release is to do: its steps, the gates between them, and where it goes back to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from server.core.flags import Prerequisite, Rule, Serve
from server.core.json import Json


class Kind(StrEnum):
    """How a release was drawn up; all kinds go on by the same machine."""

    PROGRESSIVE = "progressive"
    CANARY = "canary"
    """A treatment beside an equal control slice, both growing."""

    BLUE_GREEN = "blue-green"
    """A preview for a few, then one switch for all."""


class BackTo(StrEnum):
    """Where a roll-back goes."""

    ANCHOR = "anchor"
    """What was there when the release began."""

    STEP = "step"
    OFF = "off"
    """Every flag of the release is turned off."""

    FREEZE = "freeze"
    """Nothing is changed any more: it is held where it is."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a roll-back goes."""

    to: BackTo = BackTo.ANCHOR
    step: int = 0
    """For STEP: counted from 0."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What one step sets of a flag in one environment; None and nothing leave it as it is."""

    environment: str
    flag: str
    rule: str = ""
    """The rule that share, condition and serve are of; "" for what is served when no rule matches."""

    share_parts: int | None = None
    """Units: parts of SHARE_PARTS."""

    serve: Serve | None = None
    sets_condition: bool = False
    condition: Json = None
    """None matches every unit; counts only with `sets_condition`."""

    enabled: bool | None = None
    prerequisites: tuple[Prerequisite, ...] | None = None
    variants: Mapping[str, Json] = field(default_factory=dict)
    """Added to the flag, in all environments, unless it has them; a roll-back leaves them."""

    add_rule: Rule | None = None
    """Put among the rules where no rule of its id is there."""

    add_first: bool = False
    """Before all other rules; else behind them."""

    remove_rule: str = ""


Subject: TypeAlias = tuple[str, str]
"""(environment, flag)."""


class Policy(StrEnum):
    """What is done about a verdict, once there were more of them than its limit."""

    ADVANCE = "advance"
    """It counts as if all were well."""

    HOLD = "hold"
    """The step is not left until the verdict is another."""

    ROLL_BACK = "roll-back"
    WARN = "warn"
    """It counts as if all were well, and people are told."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """How many verdicts of a kind are borne in a step, and what one more leads to."""

    policy: Policy
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """What a guard must say for a step to be left, and what comes of it when it says something else."""

    guard: str
    """The guard's key."""

    fail: Reaction = Reaction(Policy.ROLL_BACK)
    inconclusive: Reaction = Reaction(Policy.HOLD)
    no_data: Reaction = Reaction(Policy.HOLD)
    error: Reaction = Reaction(Policy.HOLD, 4)
    """Its limit counts errors in a row, as that of `no_data` does; the others count all of a step."""

    passes: int = 1
    """So many in a row are asked for."""

    initial_delay_s: float = 0.0
    """What was said sooner after the step began does not count."""

    dry_run: bool = False
    """It is written down and shown, and decides nothing."""


class OnTimeout(StrEnum):
    """What silence means."""

    GO = "go"
    HOLD = "hold"
    ROLL_BACK = "roll-back"


@dataclass(frozen=True, slots=True)
class External:
    """Somebody outside who is asked to say go or no-go."""

    name: str
    timeout_s: float = 3600.0
    on_timeout: OnTimeout = OnTimeout.HOLD
    on_no_go: OnTimeout = OnTimeout.HOLD
    """GO is not allowed here: it would not be a question."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What must be so for a step to be left: all of it, and people are asked last."""

    minimum_s: float = 0.0
    sample_min: int = 0
    """Observations that each check's guard must have seen."""

    checks: tuple[Check, ...] = ()
    externals: tuple[External, ...] = ()
    approvals: int = 0
    manual: bool = False
    """Only a person's `advance` leaves it."""

    @property
    def only_time(self) -> bool:
        """Whether nothing but time holds the step, so that catching up may pass it."""
        return not (self.sample_min or self.checks or self.externals or self.approvals or self.manual)


@dataclass(frozen=True, slots=True)
class Step:
    """What is set when the step begins, and what must be so for it to end."""

    patches: tuple[Patch, ...]
    gates: Gates = Gates()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Deadline:
    """By when a release should be completed, and what happens when it is not."""

    at: datetime
    policy: Policy = Policy.WARN


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a release is to do."""

    name: str
    steps: tuple[Step, ...]
    kind: Kind = Kind.PROGRESSIVE
    description: str = ""
    start_approvals: int = 0
    """Beside what the environments ask for themselves."""

    starts_at: datetime | None = None
    """It starts itself then, once it has its approvals."""

    cutoff_at: datetime | None = None
    """Its flags are turned off then, unless it has ended by then."""

    deadline: Deadline | None = None
    locks: bool = False
    """Whether nobody else may change its flags while it runs."""

    back_to: Target = Target()
    """Where a roll-back goes that does not say where."""

    by_clock: bool = False
    """Whether steps that only time leaves stand in the flags beforehand, so that they come without a server, too."""

    def subjects(self) -> tuple[Subject, ...]:
        """The flags that it changes, each once, in the order of the steps."""
        return tuple(dict.fromkeys((each.environment, each.flag) for each in self.patches()))

    def patches(self, *, until: int | None = None) -> Iterator[Patch]:
        """Those of all steps, or of those before one."""
        for step in self.steps[:until]:
            yield from step.patches

    def environments(self) -> tuple[str, ...]:
        """Where it changes something, each once."""
        return tuple(dict.fromkeys(environment for environment, _ in self.subjects()))
