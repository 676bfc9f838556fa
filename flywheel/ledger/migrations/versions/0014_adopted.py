"""Labeling tasks of a project that is not ours, whose annotations count too."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    if "adopted" in sa.inspect(op.get_bind()).get_table_names():
        return
    op.create_table(
        "adopted",
        sa.Column("project", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("external_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sample_id", sa.String(64), sa.ForeignKey("samples.id"), nullable=False),
        sa.Column("data_digest", sa.String(32), nullable=False),
    )
    op.create_index("ix_adopted_sample_id", "adopted", ["sample_id"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
