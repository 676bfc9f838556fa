"""A batch says towards whose disagreement its draw leant; those that are there did not lean."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("batches")}
    columns = (
        sa.Column("challenger_digest", sa.String(64)),
        sa.Column("champion_digest", sa.String(64)),
        sa.Column("least_differing", sa.Float),
    )
    for column in columns:
        if column.name not in known:
            op.add_column("batches", column)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
