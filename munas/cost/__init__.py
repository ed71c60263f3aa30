"""What a network costs on a board: which kernels, how many loop trips, and a calibration's time, RAM and flash.

In: a graph or the works of a plan, and a `Calibration`. Out: estimates with intervals. May import arch and memory.
"""
