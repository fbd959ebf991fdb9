"""Decide whether a change may be made to an environment now."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from server.core.environments import Environment
from server.core.events import Event

Permit: TypeAlias = Callable[[Environment, Sequence[Event]], None]
"""Asked within the commit, with the environment as it is stored and what would happen; raises what is in the way.

Also asked for other environments that the change reaches, since they share a flag's variants."""


def permit_all(_environment: Environment, _events: Sequence[Event]) -> None:
    """Let everything through."""
