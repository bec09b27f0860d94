"""The connector to any webhook receiver, and a simulated receiver for demo and tests.

Belongs here: the formats that receivers accept, signing, and what their answers mean. Does not belong here: when a
delivery is tried again (`delivery`), and how a request leaves the house (`connectors.http`).
"""
