"""Options that say on which board, where and how networks are measured: the same for every command that samples."""

from __future__ import annotations

from hil.options import OptionsModel, Quantity, option

DEFAULT_BOARD = "nucleo-f746zg"
DEVICE_HELP = "Which board: serial number, port or labgrid:PLACE."
CLUSTER_HELP = "Ray cluster that does the jobs: auto, HOST:PORT or ray://HOST:PORT."


class PlaceOptions(OptionsModel):
    """The board and the place that runs it."""

    board: str = option(DEFAULT_BOARD, "--board", "-b", help="Board name, or a board's .toml file.")
    backend: str = option("auto", "--backend", "--via", help="Where to run: auto, hardware, renode or qemu.")
    device: str | None = option(None, help=DEVICE_HELP)
    flash: Quantity | None = option(None, help="Flash budget, e.g. 64K or 1M.")
    sram: Quantity | None = option(None, help="SRAM budget, e.g. 64K or 1M.")
    link: str = option("uart", help="uart, or rtt: no UART, through the debugger's access to RAM.")
    cluster: str | None = option(None, help=CLUSTER_HELP)
    optimise: str | None = option(None, help="speed, balanced (default) or size: which kernels networks get.")
    timer: str | None = option(None, help="modelled-cycles (via qemu); default: the place's own timer.")
