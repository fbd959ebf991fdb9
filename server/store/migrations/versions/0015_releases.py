"""Keep releases, and who moves which flag."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is released yet."""
    op.create_table(
        "release",
        *_texts("project", "id", "state", "kind", "name", "plan", "progress", "anchors"),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        *_texts("created_by"),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name="pk_release"),
    )
    op.create_index("ix_release_state", "release", ["project", "state", "created_at"])
    op.create_index("ix_release_next_at", "release", ["next_at"])
    op.create_table(
        "release_subject",
        *_texts("project", "release", "environment", "flag"),
        _of_release("release_subject"),
        sa.PrimaryKeyConstraint("project", "release", "environment", "flag", name="pk_release_subject"),
    )
    op.create_index("ix_release_subject_flag", "release_subject", ["project", "environment", "flag"])
    op.create_table(
        "release_event",
        *_texts("project", "release"),
        sa.Column("number", sa.Integer(), nullable=False),
        *_texts("event", "told", "move", "revisions", "actor", "cause", "request_id"),
        sa.Column("at", sa.DateTime(), nullable=False),
        _of_release("release_event"),
        sa.PrimaryKeyConstraint("project", "release", "number", name="pk_release_event"),
    )
    op.create_index("ix_release_event_request_id", "release_event", ["project", "request_id"])
    op.create_table(
        "release_template",
        *_texts("project", "name", "description", "steps", "updated_by"),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.key"], name="fk_release_template_project"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_release_template"),
    )
    op.create_table(
        "flag_lock",
        *_texts("project", "environment", "flag", "holder"),
        sa.Column("locks", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "environment"], ["environment.project", "environment.key"], name="fk_flag_lock_environment"
        ),
        sa.PrimaryKeyConstraint("project", "environment", "flag", name="pk_flag_lock"),
    )
    op.create_index("ix_flag_lock_holder", "flag_lock", ["project", "holder"])


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _of_release(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["project", "release"], ["release.project", "release.id"], name=f"fk_{table}_release"
    )
