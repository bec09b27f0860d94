"""Errors of the store.

StoreError
├── DatabaseUnreachableError   the server does not answer, or ended the connection
├── NotMigratedError           the schema is missing or older than this program
├── LeaseLostError             this worker's session is over; its lanes have, or will have, another owner
├── SupersededError            another operator leads; this one must stop writing
├── PoolRoleError              a pool's login cannot be made, changed or dropped as asked
└── RestoredDatabaseError      the transaction numbers in the cursor belong to another cluster
"""


class StoreError(Exception):
    """Anything that the store reports on purpose; its message says what to do."""


class DatabaseUnreachableError(StoreError):
    """The server does not answer, or ended the connection; trying again later is right."""


class NotMigratedError(StoreError):
    """The schema is missing or older than this program: run `integrations migrate`."""


class RestoredDatabaseError(StoreError):
    """The database was restored into another cluster: run `integrations migrate` before dispatching."""


class LeaseLostError(StoreError):
    """This worker's session is over: nothing of what it asked was written."""


class SupersededError(StoreError):
    """Another operator leads: nothing was written, and nothing of this one's term will be."""


class PoolRoleError(StoreError):
    """The database refuses to make, change or drop a pool's login role."""
