"""Published figures against the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.boards.board import Board
from hil.cycle_model.model import Milliseconds
from hil.cycle_model.validate import Modelled, load_published, our_board, published_file, validate
from hil.errors import InfrastructureError, ToolMissing
from hil.measure import published as runs


def test_the_shipped_figures_are_the_shared_ones(shared: Path) -> None:
    assert json.loads(published_file().read_text()) == json.loads((shared / "silicon" / "published.json").read_text())


def test_every_figure_gets_a_row_and_a_reason() -> None:
    published = load_published(published_file())
    assert len(published) == 112
    modelled = [
        Modelled(figure.sha256, "nucleo-l4r5zi", "cmsis-nn", Milliseconds(100, 95, 105))
        for figure in {item.sha256: item for item in published}.values()
    ]
    rows = validate(published, modelled)
    assert [row.published for row in rows] == list(published)
    assert all(row.why for row in rows)
    for row in rows:
        at_hand = row.board == "nucleo-l4r5zi"
        assert (row.ratio is not None) is at_hand
        if row.ratio is not None:
            assert row.ratio == pytest.approx(100.0 / row.published.milliseconds)


def test_only_the_same_kernels_are_comparable() -> None:
    published = load_published(published_file())
    modelled = [Modelled(published[0].sha256, "nucleo-l4r5zi", "cmsis-nn", Milliseconds(100, 95, 105))]
    comparable = [row for row in validate(published, modelled) if row.comparable]
    assert {row.published.milliseconds for row in comparable} == {8.605}
    assert {row.published.submitter for row in comparable} == {"OctoML", "Krai"}
    with_tflm = [Modelled(published[0].sha256, "nucleo-l4r5zi", "tflm", Milliseconds(100, 95, 105))]
    assert not any(row.comparable for row in validate(published, with_tflm))


def test_the_runtime_with_the_same_kernels_is_preferred() -> None:
    figure = next(item for item in load_published(published_file()) if "microtvm_cmsis" in item.board)
    both = [
        Modelled(figure.sha256, "nucleo-l4r5zi", "tflm", Milliseconds(9, 8, 10)),
        Modelled(figure.sha256, "nucleo-l4r5zi", "cmsis-nn", Milliseconds(8, 7, 9)),
    ]
    (row,) = validate([figure], both)
    assert (row.runtime, row.comparable) == ("cmsis-nn", True)
    assert row.to_json()["ratio"] == pytest.approx(8.0 / figure.milliseconds)


def test_boards_are_told_apart_by_chip_and_clock() -> None:
    boards = {(item.board, our_board(item)) for item in load_published(published_file())}
    assert ("DISCO_F746NG", "nucleo-f746zg") in boards
    assert ("NUCLEO_L4R5ZI-zephyr", "nucleo-l4r5zi") in boards
    assert ("NUCLEO_H7A3ZI_Q", None) in boards


@pytest.mark.parametrize("text", ["", "[1]", '[{"model": 1, "published": [{}]}]'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="ascii")
    with pytest.raises(InfrastructureError, match="published figures"):
        load_published(path)


@pytest.mark.parametrize("without", [("nucleo-f746zg",), ("nucleo-l4r5zi", "nucleo-f746zg")])
def test_a_board_that_the_runtime_was_not_built_for_is_passed_over(
    without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stub:
        def __init__(self, board: Board, options: object) -> None:
            self._name = board.name

        def measure(self, data: bytes, model: str) -> str:
            if self._name in without:
                raise ToolMissing("a library", "build it")
            return f"{model} on {self._name}"

    monkeypatch.setattr(runs, "Harness", Stub)
    heard: list[str] = []
    if len(without) == 2:
        with pytest.raises(ToolMissing):
            runs.measure_networks({"a.tflite": b""}, "tflm", heard.append)
    else:
        assert runs.measure_networks({"a.tflite": b""}, "tflm", heard.append) == ["a on nucleo-l4r5zi"]
    assert all(any(text.startswith(f"{name} is passed over") for text in heard) for name in without)
