"""The page of a search: front, progress, pruning, networks handed over.

In: a `SearchResult`. Out: HTML. May import `charts`.
"""
