"""A draw leans towards the disagreement of the champion with several challengers, not with one."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_BATCHES = sa.table(
    "batches",
    sa.column("id", sa.String),
    sa.column("challenger_digest", sa.String),
    sa.column("challengers", sa.JSON),
)


def upgrade() -> None:
    connection = op.get_bind()
    known = {column["name"] for column in sa.inspect(connection).get_columns("batches")}
    if "challengers" not in known:
        op.add_column("batches", sa.Column("challengers", sa.JSON))
    if "challenger_digest" not in known:
        return
    one = _BATCHES.c.challenger_digest
    leant = sa.select(_BATCHES.c.id, one).where(one.is_not(None))
    for row in connection.execute(leant).all():
        mine = sa.update(_BATCHES).where(_BATCHES.c.id == row.id)
        connection.execute(mine.values(challengers=[row.challenger_digest]))
    op.drop_column("batches", "challenger_digest")


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
