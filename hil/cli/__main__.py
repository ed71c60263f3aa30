"""``python -m hil.cli`` is ``munas-hil``."""

from hil.entry import main

main()
