"""Keep endpoints, and what is delivered to them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_UNFINISHED = sa.text("due_at_ms IS NOT NULL")


def upgrade() -> None:
    """Nothing is delivered yet."""
    op.create_table(
        "endpoint",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url_sealed", sa.Text(), nullable=False),
        sa.Column("url_shown", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("headers_sealed", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("rate_per_s", sa.Float(53), nullable=True),
        sa.Column("burst", _WHOLE, nullable=False),
        sa.Column("concurrency", _WHOLE, nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("ordering", sa.Text(), nullable=False),
        sa.Column("timeout_ms", _WHOLE, nullable=False),
        sa.Column("since_sequence", _WHOLE, nullable=False),
        sa.Column("failing_since_ms", _WHOLE, nullable=True),
        sa.Column("breaker_state", sa.Text(), nullable=False),
        sa.Column("breaker_failures", _WHOLE, nullable=False),
        sa.Column("breaker_opened", _WHOLE, nullable=False),
        sa.Column("breaker_until_ms", _WHOLE, nullable=False),
        sa.Column("bucket_tokens", sa.Float(53), nullable=True),
        sa.Column("bucket_at_ms", _WHOLE, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("version", _WHOLE, nullable=False),
        sa.Column("created_at_ms", _WHOLE, nullable=False),
        sa.Column("updated_at_ms", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_endpoint"),
    )
    op.create_index("ix_endpoint_project", "endpoint", ["project"])
    op.create_table(
        "endpoint_secret",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("number", _WHOLE, nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("created_at_ms", _WHOLE, nullable=False),
        sa.Column("expires_at_ms", _WHOLE, nullable=True),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"], name="fk_endpoint_secret_endpoint"),
        sa.PrimaryKeyConstraint("endpoint_id", "number", name="pk_endpoint_secret"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("ordering_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("due_at_ms", _WHOLE, nullable=True),
        sa.Column("attempt_count", _WHOLE, nullable=False),
        sa.Column("round_start", _WHOLE, nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("created_at_ms", _WHOLE, nullable=False),
        sa.Column("finished_at_ms", _WHOLE, nullable=True),
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
        sa.Column("number", _WHOLE, nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status_code", _WHOLE, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("started_at_ms", _WHOLE, nullable=False),
        sa.Column("ended_at_ms", _WHOLE, nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_attempt_delivery"),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_attempt"),
    )
    op.create_table(
        "fan_out",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", _WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("project", name="pk_fan_out"),
    )
    op.create_table(
        "notice",
        sa.Column("id", _WHOLE, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
    )
