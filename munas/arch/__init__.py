"""Architectures: the search space, its morphs, the operator graph, and cutting channels out.

In: random numbers or JSON. Out: `Architecture`, `Graph`. May import memory.
"""
