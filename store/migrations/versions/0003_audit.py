"""What an audit asks of attempts: digest, timings, particulars, and the name of the worker."""

from store.migrations.plain_sql import run_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
