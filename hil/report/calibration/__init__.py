"""The page of a calibration: headline, time, memory, errors of the fits.

In: a `CalibrationResult`. Out: HTML. May import `charts`.
"""
