"""pytest plugin: networks measured in tests, by the fixtures `hil_board` and `hil_measure`.

Every pytest run in an environment with munas-hil loads this file, so all that is heavy is imported by the fixtures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from hil.boards.board import Board
    from hil.measure.harness import Measured

DEFAULT_BOARD = "nucleo-f746zg"
# No auto: what a test measures must not depend on what happens to be plugged in.
VIAS = ("qemu", "renode", "hardware")
MARKER = "hil_hardware"


class Measure(Protocol):
    """What `hil_measure` is: measures a .tflite, given as its path or bytes; `name` is for people.

    `board` is `hil_board` with another budget: ``hil_board.with_budget(flash_bytes, sram_bytes)``. Raises HilError:
    ModelError, BudgetError, ToolMissing, LinkError and so on (`hil.errors`).
    """

    def __call__(
        self, model: str | Path | bytes, name: str | None = None, *, board: Board | None = None
    ) -> Measured: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--hil-board`` and ``--hil-via``."""
    group = parser.getgroup("munas-hil", "networks measured on (emulated) microcontrollers")
    group.addoption("--hil-board", metavar="NAME", default=DEFAULT_BOARD, help="Board; default: %(default)s.")
    group.addoption(
        "--hil-via", choices=VIAS, default="qemu", help="Where firmware runs; hardware tests need hardware."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", f"{MARKER}: needs a connected board; skipped without --hil-via hardware")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what asks for hardware unless the user does too."""
    if config.getoption("--hil-via") == "hardware":
        return
    # What the plugin is for: a user's tests of a board run where there is one, and say where there is none.
    skip = pytest.mark.skip(reason="needs a connected board: run with --hil-via hardware")
    for item in items:
        if item.get_closest_marker(MARKER) is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def hil_board(pytestconfig: pytest.Config) -> Board:
    """The board of ``--hil-board``."""
    from hil.boards.board import load_board

    return load_board(pytestconfig.getoption("--hil-board"))


@pytest.fixture(scope="session")
def hil_measure(pytestconfig: pytest.Config, hil_board: Board) -> Measure:
    """Measures a network on `hil_board`: time, memory, and its outputs against LiteRT's reference kernels.

    Of several connected boards a measurement takes whichever is free.
    """
    from hil.measure.harness import Harness, Options, read_model
    from hil.targets.place import choose_place

    place = choose_place(hil_board, pytestconfig.getoption("--hil-via"), several=True)
    options = Options(via=place.via, devices=place.devices)

    def measure(model: str | Path | bytes, name: str | None = None, *, board: Board | None = None) -> Measured:
        data = model if isinstance(model, bytes) else read_model(Path(model))
        usual = "model" if isinstance(model, bytes) else Path(model).stem
        return Harness(board or hil_board, options).measure(data, name or usual)

    return measure
