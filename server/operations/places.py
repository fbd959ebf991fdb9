"""What projects and environments have in common as things that are managed."""

from sqlalchemy import Engine

from server.core.access import Action, Principal, Scope
from server.core.errors import InvalidRequest
from server.core.events import Event
from server.operations.writes import Outcome, Write, Written
from server.store.audit import list_entries
from server.store.engine import reading

ENTRIES_MAX = 100_000
"""Of one commit, that are looked through for what it did."""


def confirmed(what: str, key: str, confirm: str) -> None:
    """Refuse to delete what was not named twice. Errors: InvalidRequest."""
    if confirm != key:
        raise InvalidRequest(f"to delete {what} {key!r}, confirm it by its key; {confirm!r} is not that")


def may_read(principal: Principal, project: str, environment: str) -> bool:
    """Whether somebody may see that an environment is there."""
    return principal.may(Action.READ, Scope(project, environment))


def first_answer(engine: Engine, project: str, write: Write, *, event: type[Event], key: str) -> Written | None:
    """What a request with this id did the first time, where that cannot be asked for again in the same words.

    None when it has no id, or did nothing of this kind to this thing.
    """
    if not write.request_id:
        return None
    with reading(engine) as connection:
        entries = list_entries(connection, project=project, request_id=write.request_id, limit=ENTRIES_MAX)
    if not any((entry.action, entry.subject_key) == (event.type, key) for entry in entries):
        return None
    return Written(Outcome.APPLIED, {entry.environment: entry.revision for entry in entries if entry.environment})
