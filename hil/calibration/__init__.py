"""Calibration: networks drawn from the search space, measured, fitted, validated; and estimates from what came of it.

In: a board and what measures on it. Out: a run folder with `calibration.toml`, and a `CalibrationResult`.
May import measure, jobs and below, and munas for the space and the cost models.
"""
