"""Keep endpoints, and what is delivered to them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_UNFINISHED = sa.text("due_at_ms IS NOT NULL")


def upgrade() -> None:
    """Nothing is delivered yet."""
    op.create_table(
        "endpoint",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("ordering", sa.Text(), nullable=False),
        sa.Column("since_sequence", sa.Integer(), nullable=False),
        sa.Column("failing_since_ms", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_endpoint"),
    )
    op.create_index("ix_endpoint_project", "endpoint", ["project"])
    op.create_table(
        "delivery",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("ordering_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("due_at_ms", sa.Integer(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("round_start", sa.Integer(), nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.Integer(), nullable=False),
        sa.Column("finished_at_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"], name="fk_delivery_endpoint"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("event_id", "endpoint_id", name="uq_delivery_event_id_endpoint_id"),
    )
    for name, columns in (
        ("ix_delivery_due", ["endpoint_id", "lane", "due_at_ms"]),
        ("ix_delivery_order", ["endpoint_id", "ordering_key", "sequence"]),
    ):
        op.create_index(name, "delivery", columns, sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)
    op.create_index("ix_delivery_status", "delivery", ["endpoint_id", "status", "finished_at_ms"])
    op.create_index("ix_delivery_finished_at_ms", "delivery", ["finished_at_ms"])
    op.create_table(
        "attempt",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("started_at_ms", sa.Integer(), nullable=False),
        sa.Column("ended_at_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_attempt_delivery"),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_attempt"),
    )
    op.create_table(
        "fan_out",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", name="pk_fan_out"),
    )
