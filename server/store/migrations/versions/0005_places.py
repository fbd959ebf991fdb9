"""Let projects and environments be deleted while what was done in them stays known."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing was deleted yet."""
    op.add_column("project", sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("project", sa.Column("deleted_at", sa.DateTime(), nullable=True))
    op.add_column("environment", sa.Column("deleted_at", sa.DateTime(), nullable=True))
