"""A ledger that is there already gets its project's id."""

from alembic import op

from flywheel.ledger.engine import draw_identity
from flywheel.ledger.tables import identity

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    identity.create(op.get_bind())
    draw_identity(op.get_bind())


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
