"""Keep the size of each environment's text for in-process clients, so that no commit has to add it up."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """It is counted at each environment's next commit."""
    op.add_column("environment", sa.Column("sync_total", sa.Integer(), nullable=True))
