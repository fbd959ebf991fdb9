"""Gather the management services, one line each."""

from sqlalchemy import Engine

from server.live.recent import RecentContexts
from server.operations.asof import AsOf
from server.operations.audit import Audit
from server.operations.change_requests.applying import Applying
from server.operations.change_requests.review import Review
from server.operations.history import History
from server.operations.tokens import Tokens
from server.operations.writes import Writer
from server.rpc.audit import audit_table
from server.rpc.change_requests import change_requests_table
from server.rpc.flags import flag_table
from server.rpc.history import history_table
from server.rpc.management import Management
from server.rpc.simulation import simulation_table
from server.rpc.table import Table, merge
from server.rpc.tokens import token_table


def management_table(
    management: Management, engine: Engine, writer: Writer, *, tokens: Tokens, recent: RecentContexts | None = None
) -> Table:
    """Handlers of all services by which flags are managed; `writer` makes their changes, `engine` is read from.

    `recent` holds contexts that were evaluated lately, for simulations; None where none are kept.
    """
    return merge(
        audit_table(management, Audit(engine, tokens.secret)),
        change_requests_table(management, Review(writer), Applying(writer)),
        flag_table(management, engine, writer),
        history_table(management, History(engine, writer), AsOf(engine)),
        simulation_table(management, writer, recent),
        token_table(management, tokens),
    )
