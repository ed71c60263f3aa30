"""The command line, the pytest plugin, and all that is shown on a terminal: the one place that prints.

In: options and files that users name. Out: one JSON document or text, and an exit status. May import everything below.
"""
