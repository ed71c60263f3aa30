"""The page of a measurement: time of each layer, where cycles and memory go, the arena.

In: a `MeasurementResult`. Out: HTML. May import `charts`.
"""
