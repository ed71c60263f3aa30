"""Runs the networks that figures have been published for, on the boards that we model, under the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from hil.boards.board import Board, load_board
from hil.cycle_model.validate import Modelled, Published, modelled_boards
from hil.errors import ToolMissing, UsageError
from hil.measure.harness import Harness, Measured, Options, read_model
from munas.cost.variants import SPECS


def find_networks(folder: Path, published: Iterable[Published]) -> dict[str, bytes]:
    """Those of the published networks that are .tflite files in `folder`, by the names they were published under.

    Recognised by content, not by name. Raises UsageError when there is none.
    """
    names = {figure.sha256: figure.model for figure in published}
    files = [read_model(path) for path in sorted(folder.glob("*.tflite"))]
    found = {hashlib.sha256(data).hexdigest(): data for data in files}
    networks = {name: found[sha256] for sha256, name in names.items() if sha256 in found}
    if not networks:
        wanted = ", ".join(names.values())
        raise UsageError(f"{folder} has none of the networks with published figures, by content: {wanted}")
    return networks


def measure_networks(
    networks: dict[str, bytes], runtime: str, told: Callable[[str], None] = lambda _: None
) -> list[Measured]:
    """Each network on each board that we model, with modelled cycles; `told` hears what runs now, and which boards are
    passed over because the runtime was not built for their core. Raises HilError, ToolMissing when that is all of them.
    """
    found: list[Measured] = []
    missing: ToolMissing | None = None
    for name in modelled_boards():
        board = _with_all_of_it(load_board(name))
        harness = Harness(board, Options(runtime=runtime, modelled="beside"))
        try:
            for model, data in networks.items():
                told(f"{model} on {board.name}")
                found.append(harness.measure(data, model.removesuffix(".tflite")))
        except ToolMissing as error:
            told(f"{board.name} is passed over: {error}")
            missing = error
    if missing is not None and not found:
        raise missing
    return found


def _with_all_of_it(board: Board) -> Board:
    """The published figures were measured with a chip to themselves."""
    chip = board.target("hardware")
    return board.with_budget(chip.flash.length, chip.sram.length)


def modelled_of(results: Iterable[Measured]) -> list[Modelled]:
    """What can stand beside published figures: outputs were right, and the board has evidence."""
    found = []
    for result in results:
        item, time = result.measurement, result.measurement.modelled
        if time is None or time.milliseconds is None or item.outputs.mismatched:
            continue
        identity = item.identity
        found.append(Modelled(item.sha256, identity.board, identity.runtime, time.milliseconds, _cmsis_share(result)))
    return found


def _cmsis_share(result: Measured) -> float:
    """Part of the modelled cycles; all of them where an interpreter calls its library for each operator."""
    time = result.measurement.modelled
    if time is None or result.measurement.identity.runtime != "cmsis-nn":
        return 1.0
    steps = zip(result.plan.steps, time.layers, strict=True)
    return sum(cycles for step, cycles in steps if SPECS[step.work.variant].made_by == "cmsis-nn") / time.median
