"""Many jobs: worker processes that survive a dead board, and a store that survives kill -9.

In: job functions by index. Out: results in SQLite. Knows nothing of networks.
"""
