"""Feedback notes the source that it came from; what is there already has none."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("feedback")}
    if "source" not in known:
        column = sa.Column("source", sa.String(100), nullable=False, server_default="")
        op.add_column("feedback", column)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
