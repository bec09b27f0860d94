"""A tenant may have a retention of its own: what outlived it is deleted from partitions that others still need."""

from store.migrations.plain_sql import run_sql_beside

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
