"""Find out which changes write requests come to that stand inside another request, without making them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage

from server.core.access import Action, Principal
from server.core.errors import InvalidRequest, TooLarge
from server.operations.writes import Outcome, Written
from server.rpc.management import Management
from server.rpc.simulation import proposed
from server.store.commit import Part

_STRENGTH: Final = (Action.KILL, Action.EDIT, Action.ADMINISTER)
"""Whoever may do one of these may do those before it."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What several writes come to as one."""

    parts: Sequence[Part]
    """One for each environment."""

    replace_variants: bool
    action: Action
    """What one must be allowed to make all of them."""


def captured(
    management: Management, writes: Sequence[AnyMessage], principal: Principal, *, project: str, most: int
) -> Captured:
    """Let the services that the writes are for say which changes they come to.

    Errors: InvalidRequest for a write that is none, or is for another project; TooLarge; as those services'.
    """
    if len(writes) > most:
        raise TooLarge(f"there are {len(writes)} writes, at most {most} are made as one")
    parts: list[Part] = []
    actions: set[Action] = set()
    replaces: list[bool] = []
    for number, write in enumerate(writes):
        function, inner, asked = proposed(management, write, principal)
        before = len(replaces)

        def instead(of: str, found: Sequence[Part], replace_variants: bool) -> Written:
            if of != project:
                raise InvalidRequest(f"the write is for project {of!r}, not {project!r}")
            parts.extend(found)
            replaces.append(replace_variants)
            return Written(Outcome.WOULD_APPLY)

        function(inner, replace(asked, request_id="", dry_run=False, instead=instead))
        if len(replaces) == before:
            raise InvalidRequest(f"write {number}, {type(inner).DESCRIPTOR.name}, comes to no change")
        actions.add(asked.action)
    strongest = max(actions, key=_STRENGTH.index, default=Action.EDIT)
    return Captured(_merged(parts), any(replaces), strongest)


def _merged(parts: Iterable[Part]) -> list[Part]:
    merged: dict[str, Part] = {}
    for part in parts:
        before = merged.get(part.environment)
        merged[part.environment] = (
            part
            if before is None
            else Part(
                part.environment,
                [*before.changes, *part.changes],
                part.expected_revision if before.expected_revision is None else before.expected_revision,
                {**before.expected_versions, **part.expected_versions},
                {**before.expected_flags, **part.expected_flags},
            )
        )
    return list(merged.values())
