"""The first schema: outbox, routing, lanes, jobs, attempts, dead letters, roles and row-level security."""

from store.migrations.plain_sql import run_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
