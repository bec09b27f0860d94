"""What every program has: settings, health, logs, a database connection that comes back.

Belongs here: what dispatcher, worker and operator share as processes. Does not belong here: anything that one of them
does.
"""
