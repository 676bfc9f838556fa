"""Where migrations begin: the tables as they are today, before the first release.

Empty, since a new ledger is made from the tables themselves and is stamped with the newest
revision. Only ledgers that are there already are migrated.
"""

revision = "0018"
down_revision = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
