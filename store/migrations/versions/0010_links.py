"""What connectors remember: links between records, claims on missing ones, and facts about accounts."""

from store.migrations.plain_sql import run_sql_beside

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
