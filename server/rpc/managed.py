"""Gather the management services, one line each."""

from sqlalchemy import Engine

from server.live.recent import RecentContexts
from server.operations.actions import Ledger
from server.operations.asof import AsOf
from server.operations.audit import Audit
from server.operations.change_requests.applying import Applying
from server.operations.change_requests.review import Review
from server.operations.environments import Environments
from server.operations.feed import Feed
from server.operations.guards.managing import Guards
from server.operations.guards.releasing import judgements
from server.operations.history import History
from server.operations.launch_plans.planning import LaunchPlans
from server.operations.metrics import Metrics, Observing, Recorded, nobody_waits
from server.operations.projects import Projects
from server.operations.releases.moving import Releases
from server.operations.rules.managing import Rules
from server.operations.segments import Segments
from server.operations.staleness.managing import Staleness
from server.operations.tokens import Tokens
from server.operations.triggers import Triggers
from server.operations.writes import Writer
from server.rpc.actions.running import Actions
from server.rpc.actions.service import actions_table
from server.rpc.audit import audit_table
from server.rpc.change_requests import change_requests_table
from server.rpc.environments import environment_table
from server.rpc.events import events_table
from server.rpc.flags import flag_table
from server.rpc.guards import guards_table
from server.rpc.history import history_table
from server.rpc.launch_plans import launch_plans_table
from server.rpc.management import Management
from server.rpc.observations import metrics_table
from server.rpc.projects import project_table
from server.rpc.releases import release_table
from server.rpc.rules import rules_table
from server.rpc.schedules import schedules_table
from server.rpc.segments import segment_table
from server.rpc.simulation import simulation_table
from server.rpc.staleness import staleness_table
from server.rpc.table import Table, merge
from server.rpc.tokens import token_table
from server.rpc.triggers import trigger_table


def management_table(
    management: Management,
    engine: Engine,
    writer: Writer,
    *,
    tokens: Tokens,
    recent: RecentContexts | None = None,
    recorded: Recorded = nobody_waits,
    guards: Guards | None = None,
    actions: Actions | None = None,
) -> Table:
    """Handlers of all services by which flags are managed; `writer` makes their changes, `engine` is read from.

    `recent` holds contexts that were evaluated lately, for simulations; None where none are kept. `recorded` is told
    what was observed; `guards` are others than those without providers.
    """
    actions = actions or Actions(management, Ledger(engine))
    managed = merge(
        audit_table(management, Audit(engine, tokens.secret)),
        change_requests_table(management, Review(writer), Applying(writer)),
        events_table(management, Feed(engine)),
        flag_table(management, engine, writer),
        guards_table(management, guards or Guards(writer)),
        history_table(management, History(engine, writer), AsOf(engine)),
        metrics_table(management, Metrics(engine), Observing(engine, management.clock, recorded)),
        launch_plans_table(management, LaunchPlans(writer)),
        project_table(management, Projects(engine, writer)),
        release_table(management, Releases(writer, judgements)),
        environment_table(management, Environments(engine, writer)),
        schedules_table(management, writer),
        segment_table(management, Segments(engine, writer)),
        simulation_table(management, writer, recent),
        rules_table(management, Rules(writer), actions),
        staleness_table(management, Staleness(writer)),
        token_table(management, tokens),
        trigger_table(management, Triggers(writer, tokens.secret)),
    )
    actions.serve(managed)
    return merge(managed, actions_table(actions))
