"""How Alembic reaches the database: the address is handed in by the caller, and offline it needs none.

`server.storage.migrate` passes the connection in `config.attributes["connection"]`.
"""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    context.configure(dialect_name="postgresql", literal_binds=True)
else:
    context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
