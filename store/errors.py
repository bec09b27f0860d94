"""Errors of the store.

StoreError
├── DatabaseUnreachableError   the server does not answer, or ended the connection
├── NotMigratedError           the schema is missing or older than this program
├── LeaseLostError             this worker's session is over; its lanes have, or will have, another owner
    ├── ImmutableFieldError        a published connection cannot change its tenant or its pool
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


class ImmutableFieldError(StoreError):
    """A published connection was to change its tenant or its pool: delete it and create it anew."""
