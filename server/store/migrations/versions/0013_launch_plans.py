"""Keep launch plans."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has planned anything yet."""
    op.create_table(
        "launch_plan",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("step_count", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name="pk_launch_plan"),
    )
    op.create_index("ix_launch_plan_state", "launch_plan", ["project", "state", "created_at"])
    op.create_index("ix_launch_plan_next_at", "launch_plan", ["next_at"])
    op.create_table(
        "launch_plan_subject",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("launch_plan", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "launch_plan"],
            ["launch_plan.project", "launch_plan.id"],
            name="fk_launch_plan_subject_launch_plan",
        ),
        sa.PrimaryKeyConstraint("project", "launch_plan", "environment", "kind", "key", name="pk_launch_plan_subject"),
    )
    op.create_index("ix_launch_plan_subject_subject", "launch_plan_subject", ["project", "environment", "kind", "key"])
    op.create_table(
        "launch_plan_step",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("launch_plan", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("happening", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "launch_plan"],
            ["launch_plan.project", "launch_plan.id"],
            name="fk_launch_plan_step_launch_plan",
        ),
        sa.PrimaryKeyConstraint("project", "launch_plan", "number", name="pk_launch_plan_step"),
    )
    op.create_index("ix_launch_plan_step_request_id", "launch_plan_step", ["project", "request_id"])
