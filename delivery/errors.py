"""Errors of delivery that somebody is told of.

ReplayError            a replay cannot be started as it was asked for
├── NoConnectionError  no connection that is meant takes events; one may come
└── NotKeptError       an event or a job that is named is not there, or not any more
"""


class ReplayError(Exception):
    """A replay cannot be started as it was asked for; the message says why."""


class NoConnectionError(ReplayError):
    """No connection that is meant takes events."""


class NotKeptError(ReplayError):
    """An event or a job that is named is not there, or not any more."""
