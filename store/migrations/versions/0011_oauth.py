"""OAuth grants of connections, sealed, and the way by which a person makes one."""

from store.migrations.plain_sql import run_sql_beside

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the SQL file of the same name."""
    run_sql_beside(__file__)
