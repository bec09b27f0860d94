"""Benchmarks: every figure beside its denominator, measured in the same run on the same server.

Belongs here: load, measurement, the table. Does not belong here: anything that the product needs to run.
"""
