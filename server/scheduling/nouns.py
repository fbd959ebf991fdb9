"""Gather what has work at certain instants, one line each."""

from server.operations.change_requests.applying import Applying
from server.operations.guards.judging import Judging
from server.operations.guards.releasing import judgements
from server.operations.launch_plans.running import Running
from server.operations.metrics import Folding
from server.operations.releases.moving import Releases
from server.operations.schedules.executing import Executing
from server.operations.staleness.sweeping import Sweeping
from server.operations.timelines import Timelines
from server.operations.writes import Writer
from server.scheduling.change_requests import DueChangeRequests
from server.scheduling.clockwork import Timed
from server.scheduling.launch_plans import DueLaunchPlans
from server.scheduling.schedules import DueSchedules


def timed_nouns(writer: Writer, judging: Judging, *others: Timed) -> list[Timed]:
    """All that a server's clockwork wakes; `others` need more than the database."""
    return [
        DueChangeRequests(writer.engine, Applying(writer)),
        DueLaunchPlans(Running(writer)),
        Folding(writer.engine),
        judging,
        DueSchedules(Executing(writer)),
        Releases(writer, judgements),
        Sweeping(writer.engine, judging.clock),
        Timelines(writer.engine),
        *others,
    ]
