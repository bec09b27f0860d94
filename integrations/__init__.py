"""The command `integrations`: one door to every program of the layer.

Belongs here: arguments, exit codes, tables for people. Does not belong here: anything a program does.
"""
