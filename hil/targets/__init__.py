"""Where firmware runs: QEMU, Renode, and boards that are connected, found, flashed and locked.

In: an ELF and a board. Out: an open serial transport. May import link, cycle_model (the plugin for QEMU) and boards.
"""
