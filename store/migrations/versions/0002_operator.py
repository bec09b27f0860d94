"""What the operator needs: terms of office, pools with credentials, connections that end for good."""

from store.migrations.plain_sql import run_sql_beside

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
