"""Let an environment say who has to agree to a change, and when there may be none."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No environment is protected yet."""
    column = sa.Column("protection_document", sa.Text(), server_default=sa.text("'{}'"), nullable=False)
    op.add_column("environment", column)
