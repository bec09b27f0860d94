"""PostgreSQL: schema, migrations, roles, and every SQL statement of the layer.

Belongs here: SQL and the types its rows become. Does not belong here: decisions. When to retry, what to send and
whom to route to is decided by the packages above, which know no SQL.
"""
