"""Times that nights are meant for, counters of locks that are alive, and questions to a person."""

import sqlalchemy as sa
from alembic import op

from flywheel.ledger.utc import Utc

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("nights") as nights:
        nights.add_column(sa.Column("slot", Utc()))
        nights.add_column(
            sa.Column("is_early", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("nights") as nights:
        nights.alter_column("is_early", server_default=None)
    with op.batch_alter_table("locks") as locks:
        locks.add_column(sa.Column("counter", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("locks") as locks:
        locks.alter_column("counter", server_default=None)
    op.create_table(
        "approvals",
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("asked_at", Utc(), nullable=False),
        sa.Column("deadline", Utc(), nullable=False),
        sa.Column("at_deadline", sa.String(20), nullable=False),
        sa.Column("answer", sa.String(20)),
        sa.Column("answered_by", sa.String(200)),
        sa.Column("reason", sa.String(500)),
        sa.Column("answered_at", Utc()),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], name="fk_approvals_decision_id_decisions"
        ),
        sa.PrimaryKeyConstraint("decision_id", name="pk_approvals"),
    )


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
