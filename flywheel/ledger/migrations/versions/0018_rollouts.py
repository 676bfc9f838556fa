"""A promoted candidate may meet live traffic first: in the shadow, then with a share of callers."""

from alembic import op

from flywheel.ledger.serving_tables import rollouts, shadows

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    for table in (rollouts, shadows):
        table.create(op.get_bind())


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
