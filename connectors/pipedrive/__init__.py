"""Pipedrive: organisations, notes, activities and leads of a company, through its two APIs.

Belongs here: what Pipedrive's API wants and answers, and a simulator that behaves like it. Does not belong here: what
other CRMs need as well (`connectors`).
"""
