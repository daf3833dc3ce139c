"""What Alembic runs: the steps, in the transaction that ``Database.migrate`` began."""

from __future__ import annotations

from alembic import context

from boltseal.broker.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the transaction is the caller's, and holds all steps
)
context.run_migrations()
