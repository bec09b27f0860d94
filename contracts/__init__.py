"""What all parts agree on: events and their schemas, the connection spec, outcomes, ids.

Belongs here: types and pure functions over them. Does not belong here: I/O of any kind, and anything that
only one part of the system needs.
"""
