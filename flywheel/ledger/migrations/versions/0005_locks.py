"""Locks without a counter: a holder gives no signs of life any more."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("locks") as locks:
        locks.drop_column("counter")


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
