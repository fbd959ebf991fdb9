"""Gather the management services, one line each."""

from sqlalchemy import Engine

from server.operations.writes import Writer
from server.rpc.management import Management
from server.rpc.table import Table, merge


def management_table(management: Management, engine: Engine, writer: Writer) -> Table:
    """Handlers of all services by which flags are managed; `writer` makes their changes, `engine` is read from."""
    return merge()
