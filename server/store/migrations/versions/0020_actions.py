"""Keep what became of actions, how often automation changes flags, and addresses that have one action done."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has had anything done yet."""
    op.create_table(
        "action_answer",
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name="pk_action_answer"),
    )
    op.create_index("ix_action_answer_at", "action_answer", ["at"])
    op.create_table(
        "action_pace",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("flag", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("counted_at_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "flag", name="pk_action_pace"),
    )
    op.create_index("ix_action_pace_at", "action_pace", ["counted_at_s"])
    op.create_table(
        "trigger_url",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("preset", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("signing", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("maker", sa.Text(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("use_count", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.DateTime(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_trigger_url_project"),
        sa.PrimaryKeyConstraint("id", name="pk_trigger_url"),
    )
    op.create_index("ix_trigger_url_digest", "trigger_url", ["digest"], unique=True)
    op.create_index("ix_trigger_url_project", "trigger_url", ["project", "id"])
