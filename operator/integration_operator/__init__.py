"""The operator: custom resources become routing in the store, and later Deployments.

Belongs here: what reads connection resources and decides what is published for them. Does not belong here: delivery
itself, which goes on without the operator.
"""
