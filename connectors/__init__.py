"""The connector SDK, the guarded way out, and one folder per provider.

Belongs here: what speaks a partner's language. Does not belong here: queues, retries and throttles (`delivery`),
and SQL (`store`): a connector reaches the world only through the protocols in `connectors.context`.
"""
