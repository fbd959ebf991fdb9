"""Hold changes back while an environment is frozen."""

from collections.abc import Sequence

from server.core.environments import Environment
from server.core.errors import Refused
from server.core.events import Event
from server.core.policies import Asking, Permit, freeze_problem
from server.operations.writes import Write


def permit_unless_frozen(write: Write) -> Permit:
    """The policy for one write. Errors, when it is asked: Refused, naming the window and when it ends."""
    asking = Asking(write.principal, write.now, write.reason, write.bypass_approval)

    def permit(environment: Environment, events: Sequence[Event]) -> None:
        problem = freeze_problem(environment, events, asking)
        if problem:
            raise Refused(problem)

    return permit
