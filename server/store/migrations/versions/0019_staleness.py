"""Keep which flags are still of use, and how far that was looked at."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has looked at a flag yet."""
    op.create_table(
        "flag_staleness",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("exempt", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.Column("is_one", sa.Boolean(), nullable=False),
        sa.Column("served", sa.Text(), nullable=True),
        sa.Column("lifetime_days", sa.Integer(), nullable=True),
        sa.Column("snoozed_until", sa.DateTime(), nullable=True),
        sa.Column("marked_at", sa.DateTime(), nullable=True),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(), nullable=True),
        sa.Column("stale_at", sa.DateTime(), nullable=True),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_flag_staleness_project"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_flag_staleness"),
    )
    op.create_index("ix_flag_staleness_next_at", "flag_staleness", ["next_at"])
    op.create_index("ix_flag_staleness_state", "flag_staleness", ["project", "state", "noticed_at", "key"])
    op.create_table(
        "staleness_look",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("filled_after", sa.Text(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_staleness_look_project"),
        sa.PrimaryKeyConstraint("project", name="pk_staleness_look"),
    )
