"""The whole layer on one machine, without Kubernetes: PostgreSQL, every program, simulated partners.

Belongs here: starting, watching and ending processes on a machine. Does not belong here: anything a cluster
installation needs, for no other part may import this one.
"""
