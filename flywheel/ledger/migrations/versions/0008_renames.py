"""Classes may be renamed."""

from alembic import op

from flywheel.ledger.tables import renames

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    renames.create(op.get_bind(), checkfirst=True)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
