"""Run by Alembic for every command. The connection, in its transaction, comes from `db.migrate`."""

from alembic import context

from sealwright.db.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
