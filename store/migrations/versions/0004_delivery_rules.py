"""What the rules of delivery remember: how lanes became what they are, learned limits, letters that block."""

from store.migrations.plain_sql import run_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
