"""µNAS on a board's budget: bounds, calibrated estimates, finals, export of what was found.

In: a data set, a board and its calibration. Out: a run folder with verified networks, and a `SearchResult`.
May import calibration, measure and all of munas; prints nothing and draws nothing.
"""
