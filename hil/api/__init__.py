"""What programs use of munas-hil. `hil/__init__.py` exports it, and the command line is built on it.

In: boards by name, networks by path. Out: measurements, calibrations, estimates, projects. May import everything but
the command line; what it raises on purpose is a `hil.HilError` (`hil.errors` draws the tree).
"""
