"""Modelled cycles: a QEMU plugin counts, a board's constants turn the counts into time. See docs/timing.md.

In: the plugin's records of a run, and a board's [timing]. Out: cycles per layer, and milliseconds with their interval.
May import boards; `engine/` is the plugin's C.
"""
