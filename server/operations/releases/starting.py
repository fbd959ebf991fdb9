"""Start a release in the transaction of something else that is due, such as an item of a launch plan."""

from sqlalchemy import Connection

from server.core.access import Action, Scope
from server.core.errors import ApprovalNeeded
from server.core.releases.progress import BEFORE_START, Act, Command
from server.operations.releases.going import By, Went, happen, lacking_of
from server.operations.writes import Write, Writer, require
from server.store.releases import StoredRelease, read_release


def start_within(
    writer: Writer, connection: Connection, write: Write, *, project: str, id: str, actor: str
) -> tuple[StoredRelease, Went]:
    """Start a release with the rights of a write's principal, in the name of an actor; how it was, and how it is.

    Errors: NotFound; PermissionDenied; Refused in a state in which it cannot begin; ApprovalNeeded while others must
    agree; what policies raise; as `commit`. The caller's transaction goes on only from before it.
    """
    stored = read_release(connection, project=project, id=id)
    for environment in stored.release.plan.environments():
        require(write.principal, Action.EDIT, Scope(project, environment))
    by = By(write, actor, write.cause)
    progress, lacking = stored.release.progress, ""
    if progress.state in BEFORE_START:
        lacking = lacking_of(writer, connection, stored, by, progress)
    command = Command(Act.START, actor, write.reason, grants=write.principal.grants, lacking=lacking)
    went = happen(writer, connection, stored, command, by)
    after = went.stored.release.progress
    if after.state in BEFORE_START:
        raise ApprovalNeeded(f"release {id} cannot start yet: {after.note}")
    return stored, went
