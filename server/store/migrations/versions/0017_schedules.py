"""Keep changes that are to be made at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is scheduled yet."""
    op.create_table(
        "schedule",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.Column("timing", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("step_count", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=True),
        sa.Column("wake_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name="pk_schedule"),
    )
    op.create_index("ix_schedule_state", "schedule", ["project", "state", "created_at"])
    op.create_index("ix_schedule_wake_at", "schedule", ["wake_at"])
    op.create_table(
        "schedule_subject",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "schedule"], ["schedule.project", "schedule.id"], name="fk_schedule_subject_schedule"
        ),
        sa.PrimaryKeyConstraint(
            "project", "schedule", "environment", "kind", "key", "field", name="pk_schedule_subject"
        ),
    )
    op.create_index("ix_schedule_subject_subject", "schedule_subject", ["project", "environment", "kind", "key"])
    op.create_table(
        "schedule_step",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("happening", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("content_number", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("instant", sa.DateTime(), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "schedule"], ["schedule.project", "schedule.id"], name="fk_schedule_step_schedule"
        ),
        sa.PrimaryKeyConstraint("project", "schedule", "number", name="pk_schedule_step"),
    )
    op.create_index("ix_schedule_step_instant", "schedule_step", ["project", "schedule", "instant"], unique=True)
    op.create_index("ix_schedule_step_request_id", "schedule_step", ["project", "request_id"])
