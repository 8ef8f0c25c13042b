"""How Alembic reaches the database: the address is handed in by the caller, and offline it needs none.

`server.storage.migrate` passes the connection in `config.attributes["connection"]`.
"""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    context.configure(dialect_name="postgresql", literal_binds=True)
else:
    # One transaction for each migration, so that none holds its locks while the next one waits for others. A connection
    # that comes with a transaction, as that of a restore does, keeps it over all of them.
    context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
