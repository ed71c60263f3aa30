"""µNAS: search space, operator graph, memory and cost estimators, data sets, training and the search itself.

Never imports `hil`, and can be used alone.
"""
