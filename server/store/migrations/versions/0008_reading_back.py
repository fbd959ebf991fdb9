"""Find audit entries by subject and by instant, and revisions by instant."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Whose history is asked for is known first, where it changed after that."""
    op.drop_index("ix_audit_entry_subject", "audit_entry")
    op.create_index(
        "ix_audit_entry_subject",
        "audit_entry",
        ["project", "subject_kind", "subject_key", "environment", "sequence"],
        unique=False,
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["project", "at", "sequence"], unique=False)
    op.create_index("ix_revision_at", "revision", ["project", "environment", "at", "revision"], unique=False)
