"""Keep guards, roll-back policies, and what was said and done of them."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is watched yet."""
    op.create_table(
        "guard",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        sa.Column("judgement", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_guard_project"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_guard"),
    )
    op.create_index("ix_guard_next_at", "guard", ["next_at"])
    op.create_index("ix_guard_metric", "guard", ["project", "environment", "metric"])
    op.create_table(
        "rollback_policy",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("taken", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_rollback_policy_project"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_rollback_policy"),
    )
    op.create_index("ix_rollback_policy_next_at", "rollback_policy", ["next_at"])
    op.create_table(
        "rollback_trigger",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "policy"],
            ["rollback_policy.project", "rollback_policy.key"],
            name="fk_rollback_trigger_rollback_policy",
        ),
        sa.PrimaryKeyConstraint("project", "policy", "kind", "name", name="pk_rollback_trigger"),
    )
    op.create_index("ix_rollback_trigger_name", "rollback_trigger", ["project", "kind", "name"])
    op.create_table(
        "guard_evaluation",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("guard", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("happening", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("control_value", sa.Double(), nullable=True),
        sa.Column("sample_count", sa.Integer(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_guard_evaluation_project"),
        sa.PrimaryKeyConstraint("project", "number", name="pk_guard_evaluation"),
    )
    op.create_index("ix_guard_evaluation_guard", "guard_evaluation", ["project", "guard", "number"])
    op.create_index("ix_guard_evaluation_policy", "guard_evaluation", ["project", "policy", "number"])
