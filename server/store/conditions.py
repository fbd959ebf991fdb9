"""Hold a commit against what must be so before it is made."""

from dataclasses import replace

from sqlalchemy import Connection

from server.core.errors import Stale
from server.store.environments import StoredEnvironment, find_environment
from server.store.orders import Order, Part
from server.store.versions import check_flag_versions, check_versions


def compared(connection: Connection, order: Order, part: Part) -> Part:
    """A part without its conditions, which hold; with them, where its environment is not there yet.

    Errors: Stale; Conflict when something exists that must not.
    """
    stored = find_environment(connection, project=order.project, environment=part.environment)
    if stored is None:
        return part
    check_stored_revision(order.flag_set(part), stored, part)
    check_versions(connection, stored.environment, expected=part.expected_versions)
    check_flag_versions(connection, order.project, expected=part.expected_flags)
    return replace(part, expected_revision=None, expected_versions={}, expected_flags={})


def check_revision(connection: Connection, project: str, part: Part) -> None:
    """Refuse when an environment is not at the revision by which its reader knew it. Errors: Stale."""
    stored = find_environment(connection, project=project, environment=part.environment)
    check_stored_revision(f"{project}/{part.environment}", stored, part)


def check_stored_revision(flag_set: str, stored: StoredEnvironment | None, part: Part) -> None:
    """The same for one that was looked up. Errors: Stale."""
    revision = 0 if stored is None else stored.revision
    if part.expected_revision not in (None, revision):
        raise Stale(
            f"{flag_set!r} is at revision {revision}, expected {part.expected_revision}; "
            "read it again and repeat the change"
        )
