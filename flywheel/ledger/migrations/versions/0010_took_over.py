"""A challenge says how many it took over; those that are there took over none."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("challenges")}
    if "took_over" not in known:
        column = sa.Column("took_over", sa.Integer, nullable=False, server_default="0")
        op.add_column("challenges", column)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
