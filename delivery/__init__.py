"""Outbox to partner: the dispatcher turns events into jobs, workers deliver them.

Belongs here: decisions about jobs and lanes (routing, fairness, throttle, retry, quarantine). Does not belong here:
SQL (`store`) and anything a partner's protocol says (`connectors`).
"""
