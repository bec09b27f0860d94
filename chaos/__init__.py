"""The chaos harness: the layer as it really runs, everything that can befall it, and an account of every event.

`python -m chaos --help` says how to run it, `docs/chaos.md` how to read it. What is here starts real programs against
a real PostgreSQL and a simulated partner, breaks them from outside, and judges by what arrived at the partner and what
is left in the database. The tests in `tests/acceptance/chaos` use the same parts. The product knows nothing of it.
"""
