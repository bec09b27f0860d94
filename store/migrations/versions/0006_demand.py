"""What pools have to do, as functions that autoscalers can ask, too, and how connections stand."""

from store.migrations.plain_sql import run_sql_beside

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
