"""One network on one board: figures, and outputs held against the reference kernels.

In: a .tflite and a board. Out: a `Measurement` with the identity that it is valid for.
May import runtimes, targets, jobs and everything below. `compare` holds two of them against each other.
"""
