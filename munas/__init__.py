"""µNAS: search space, operator graph, memory and cost estimators. Never imports `hil`."""
