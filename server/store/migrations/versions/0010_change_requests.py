"""Keep changes that wait for approvals."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has asked for anything yet."""
    op.create_table(
        "change_request",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("step_count", sa.Integer(), nullable=False),
        sa.Column("apply_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name="pk_change_request"),
    )
    op.create_index("ix_change_request_state", "change_request", ["project", "state", "created_at"])
    op.create_index("ix_change_request_author", "change_request", ["project", "author", "created_at"])
    op.create_index("ix_change_request_apply_at", "change_request", ["apply_at"])
    op.create_table(
        "change_request_subject",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("change_request", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "change_request"],
            ["change_request.project", "change_request.id"],
            name="fk_change_request_subject_change_request",
        ),
        sa.PrimaryKeyConstraint(
            "project", "change_request", "environment", "kind", "key", name="pk_change_request_subject"
        ),
    )
    op.create_index(
        "ix_change_request_subject_subject", "change_request_subject", ["project", "environment", "kind", "key"]
    )
    op.create_table(
        "change_request_step",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("change_request", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("happening", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("content_number", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "change_request"],
            ["change_request.project", "change_request.id"],
            name="fk_change_request_step_change_request",
        ),
        sa.PrimaryKeyConstraint("project", "change_request", "number", name="pk_change_request_step"),
    )
    op.create_index("ix_change_request_step_request_id", "change_request_step", ["project", "request_id"])
