"""``python -m hil`` is ``munas-hil``."""

from hil.entry import main

main()
