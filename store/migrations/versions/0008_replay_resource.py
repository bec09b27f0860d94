"""Replays that people ask for with a resource, and dry runs that the dispatcher carries out."""

from store.migrations.plain_sql import run_sql_beside

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
