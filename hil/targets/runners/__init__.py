"""Where firmware runs: QEMU, Renode, or boards behind a serial line."""
