"""Seeded bugs: every promise has at least one way of breaking it here, and something that notices.

A mutant patches production code by name, from outside; ``make mutants`` shows which test, or which seed of the
simulator, catches each. A mutant that survives is a hole in the tests.
"""
