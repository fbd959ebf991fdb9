"""Lay the first tables, with revisions and audit entries that nobody can change."""

import sqlalchemy as sa
from alembic import op

from server.store.columns import refuse_changes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LASTING = ("audit_entry", "revision")


def upgrade() -> None:
    """Build every table of the first version."""
    op.create_table(
        "project",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("event_sequence", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_project"),
    )
    op.create_table(
        "audit_entry",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_audit_entry_project"),
        sa.PrimaryKeyConstraint("project", "sequence", name="pk_audit_entry"),
    )
    op.create_index("ix_audit_entry_request", "audit_entry", ["project", "request_id"], unique=False)
    op.create_index(
        "ix_audit_entry_subject", "audit_entry", ["project", "environment", "subject_kind", "subject_key"], unique=False
    )
    op.create_table(
        "environment",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("bucketing", sa.Text(), nullable=False),
        sa.Column("critical", sa.Boolean(), nullable=False),
        sa.Column("metadata_document", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.CheckConstraint("bucketing IN ('v2', 'v3')", name="ck_environment_bucketing"),
        sa.CheckConstraint("revision >= 0", name="ck_environment_revision"),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_environment_project"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_environment"),
    )
    op.create_table(
        "flag",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("archived_at", sa.DateTime(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_flag_project"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_flag"),
    )
    op.create_index("ix_flag_archived_at", "flag", ["project", "archived_at"], unique=False)
    op.create_index("ix_flag_kind", "flag", ["project", "kind"], unique=False)
    op.create_index("ix_flag_owner", "flag", ["project", "owner"], unique=False)
    op.create_index("ix_flag_type", "flag", ["project", "type"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_outbox_project"),
        sa.PrimaryKeyConstraint("project", "sequence", name="pk_outbox"),
    )
    op.create_index("ix_outbox_id", "outbox", ["id"], unique=True)
    op.create_table(
        "request",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_request_project"),
        sa.PrimaryKeyConstraint("project", "id", name="pk_request"),
    )
    op.create_table(
        "flag_config",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "environment"], ["environment.project", "environment.key"], name="fk_flag_config_environment"
        ),
        sa.ForeignKeyConstraint(["project", "key"], ["flag.project", "flag.key"], name="fk_flag_config_flag"),
        sa.PrimaryKeyConstraint("project", "environment", "key", name="pk_flag_config"),
    )
    op.create_index("ix_flag_config_key", "flag_config", ["project", "key"], unique=False)
    op.create_table(
        "reference",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("target_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "environment"], ["environment.project", "environment.key"], name="fk_reference_environment"
        ),
        sa.PrimaryKeyConstraint(
            "project", "environment", "kind", "key", "target_kind", "target_key", name="pk_reference"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_reference_target", "reference", ["project", "environment", "target_kind", "target_key"], unique=False
    )
    op.create_table(
        "revision",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "environment"], ["environment.project", "environment.key"], name="fk_revision_environment"
        ),
        sa.PrimaryKeyConstraint("project", "environment", "revision", "kind", "key", name="pk_revision"),
    )
    op.create_index(
        "ix_revision_history", "revision", ["project", "environment", "kind", "key", "revision"], unique=False
    )
    op.create_table(
        "segment",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "environment"], ["environment.project", "environment.key"], name="fk_segment_environment"
        ),
        sa.PrimaryKeyConstraint("project", "environment", "key", name="pk_segment"),
    )

    for table in LASTING:
        refuse_changes(op.get_bind(), table)
