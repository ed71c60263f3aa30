"""Watches the images that QEMU runs: command line words before, counters after."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from hil.boards.board import Board
from hil.boards.timing import Timing
from hil.cycle_model.options import engine_options
from hil.cycle_model.plugin import find_plugin
from hil.cycle_model.record import InferenceRecord, RecordReader
from hil.cycle_model.regions import find_regions
from hil.errors import RunnerError
from munas.closing import Closing
from munas.scratch import scratch_folder


class TimingObserver(Closing):
    """For one board and one emulator at a time. Making one raises what `find_plugin` raises.

    Use as a context manager: the records live in a temporary folder. Give `arguments(image)` to QEMU, then ask for
    `new_records()` after each inference; the plugin writes a record before the device can answer.
    """

    def __init__(self, board: Board, program: str) -> None:
        self._board = board
        self._plugin = find_plugin(program)
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(scratch_folder("timing"))
        self._runs = 0
        self._reader: RecordReader | None = None

    def arguments(self, image: Path) -> list[str]:
        """Words for the command line that runs `image`. Raises BuildError when `image` is not our firmware."""
        self._runs += 1
        board, records = self._board, self._folder / f"records-{self._runs}"
        self._reader = RecordReader(records)
        options = engine_options(
            board.timing or Timing(),
            board.processor,
            board.target("qemu"),
            find_regions(image),
            board.banks_via("qemu"),
        )
        return self._plugin.arguments(options, records)

    def new_records(self) -> list[InferenceRecord]:
        """Inferences finished since the last call. Raises RunnerError, also when code was met that is unknown."""
        if self._reader is None:
            return []
        found = self._reader.read_new()
        unknown = sum(record.total.unknown for record in found)
        if unknown:
            raise RunnerError(f"the timing model met {unknown} instructions it does not know; report this")
        return found

    def close(self) -> None:
        """Remove the records."""
        self._stack.close()
