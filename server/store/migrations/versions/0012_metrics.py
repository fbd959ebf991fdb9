"""Keep metrics, and the sums of what is observed of them."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing has been measured yet."""
    op.create_table(
        "metric",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_metric_project"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_metric"),
    )
    op.create_table(
        "metric_sum",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("flag", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("width_s", sa.Integer(), nullable=False),
        sa.Column("start_s", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("deviations", sa.Double(), nullable=False),
        sa.Column("denominator_mean", sa.Double(), nullable=False),
        sa.Column("denominator_deviations", sa.Double(), nullable=False),
        sa.Column("cross_deviations", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project", "metric"], ["metric.project", "metric.key"], name="fk_metric_sum_metric"),
        sa.PrimaryKeyConstraint(
            *("project", "environment", "metric", "flag", "variant", "step", "width_s", "start_s"),
            name="pk_metric_sum",
        ),
    )
    op.create_index("ix_metric_sum_width", "metric_sum", ["width_s", "start_s"])
    op.create_table(
        "metric_producer",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_metric_producer_project"),
        sa.PrimaryKeyConstraint("project", "producer", name="pk_metric_producer"),
    )
    op.create_index("ix_metric_producer_at", "metric_producer", ["at"])
