"""Predictions of other servers may come in parts: without a confidence, or after their feedback."""

from alembic import op

from flywheel.ledger.serving_tables import early_feedback, incomplete

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    for table in (incomplete, early_feedback):
        table.create(op.get_bind())


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
