"""A release is handed over to a server of the user's own, and counts as served once it is reported."""

from alembic import op

from flywheel.ledger.serving_tables import handovers

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    handovers.create(op.get_bind())


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
