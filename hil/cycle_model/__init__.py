"""Modelled cycles: a QEMU plugin counts, a board's constants turn the counts into time. See docs/timing.md."""
