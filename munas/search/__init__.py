"""The search itself: strategies, objective, one fresh process a trial, and the resumable store.

In: a trainer, an assessor of resources, settings. Out: finished trials in SQLite. May import cost and arch; what
trains is handed to it.
"""
