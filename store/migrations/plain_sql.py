"""Migrations are written in SQL, in a file beside the module that Alembic finds."""

from pathlib import Path

from alembic import op


def run_sql_beside(module_file: str) -> None:
    """Execute `<module>.sql` as it stands, in the migration's transaction."""
    script = Path(module_file).with_suffix(".sql").read_text(encoding="utf-8")
    driver_connection = op.get_bind().connection.dbapi_connection
    if driver_connection is None:
        raise RuntimeError("the migration's connection is closed")
    # Straight to the driver: without parameters it takes several statements at once and leaves % signs alone.
    driver_connection.cursor().execute(script)
