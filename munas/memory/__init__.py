"""Activation memory: exact smallest peak over all orders, and offsets in the arena.

In: a `Problem`: sizes of tensors, and steps that read and write them. Out: `Schedule`, `Layout`. Imports nothing.
"""
