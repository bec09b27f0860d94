"""Alembic's entry: hands it the one connection that `store.migrate` opened."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="integration",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
