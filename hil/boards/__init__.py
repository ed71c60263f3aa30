"""Boards as data: core, memories, budget, where they run, and constants of the cycle model.

In: a board's .toml file. Out: a checked `Board`. May import nothing but files, resources and errors.
"""
