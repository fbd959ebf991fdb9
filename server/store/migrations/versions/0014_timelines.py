"""Keep when a flag's timeline is to be settled, so that nobody has to read all flags for it."""

import sqlalchemy as sa
from alembic import op

from server.store.rows import Instant

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No flag of before has a timeline."""
    op.add_column("flag_config", sa.Column("settles_at", Instant(), nullable=True))
    op.create_index("ix_flag_config_settles_at", "flag_config", ["settles_at"])
