"""HubSpot: companies, notes and tasks of an account, through its dated API.

Belongs here: what HubSpot's API wants and answers, and a simulator that behaves like it. Does not belong here: what
other CRMs need as well (`connectors`).
"""
