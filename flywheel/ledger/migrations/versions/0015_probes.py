"""Models that were trained on parts of a dataset version, only to forecast from."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    if "probes" in sa.inspect(op.get_bind()).get_table_names():
        return
    op.create_table(
        "probes",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
