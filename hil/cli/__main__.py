"""``python -m hil.cli`` is ``munas-hil``."""

from hil.cli.main import main

main()
