"""Alembic's entry: runs the migrations on the connection that the ledger hands in."""

from alembic import context

from flywheel.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
