"""Let an environment keep its flags from in-process clients, and note what each flag takes of their text."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Sync is on for every environment; sizes are taken at each one's next commit."""
    op.add_column("environment", sa.Column("sync", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("flag_config", sa.Column("sync_bytes", sa.Integer(), nullable=True))
    op.create_index("ix_flag_config_sync_bytes", "flag_config", ["project", "environment", "sync_bytes"], unique=False)
