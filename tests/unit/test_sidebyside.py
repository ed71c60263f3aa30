"""Two runtimes side by side: which layers are partners, and what the tables and documents say."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hil.boards.board import load_board
from hil.cli.pair_tables import pair_tables
from hil.errors import UsageError
from hil.measure.harness import Measured, make_runtime
from hil.measure.harness import Options as MeasureOptions
from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement, Memory, Outputs
from hil.measure.side_by_side import LayerPair, Pair, layer_pairs, pairs_json
from tests.networks import small_network

IDENTITY = Identity(
    "mps2-an386", "cortex-m4", "cmsis-nn", "qemu", True, "icount-instructions", 25_000_000, "gcc", "-O2", "4.0.0", "f"
)
CONV = LayerTime(0, "CONV_2D", "a", 100.0)
ADD = LayerTime(1, "ADD", "b", 50.0)


def measured(runtime: str, layers: tuple[LayerTime, ...], answers: tuple[bytes, ...], differ: int) -> Measured:
    board = load_board("mps2-an386")
    measurement = Measurement(
        model="net",
        sha256="0" * 64,
        identity=replace(IDENTITY, runtime=runtime),
        latency=Latency("instructions", (200, 210)),
        layers=layers,
        memory=Memory(16, 16, 300, 2048, 900, 3000, 1000, 8000, 9000),
        outputs=Outputs(len(answers), 0, differ),
        build=Build("id", "sha", "gcc", "-O2", "4.0.0"),
    )
    plan = make_runtime(board, MeasureOptions(runtime=runtime)).deploy(small_network(1), "net")
    return Measured(measurement, plan, answers)


@pytest.fixture
def pair() -> Pair:
    pad, conv, add = (
        LayerTime(0, "PAD", "p", 7.0),
        LayerTime(1, "CONV_2D", "a", 125.0),
        LayerTime(2, "ADD", "b", 40.0),
    )
    softmax = LayerTime(2, "SOFTMAX", "only here", 9.0)
    return Pair(
        measured("cmsis-nn", (CONV, ADD, softmax), (b"\x01", b"\x02", b"\x03"), 0),
        measured("tflm", (pad, conv, add), (b"\x01", b"\x02", b"\x04"), 1),
    )


def test_partners_have_operator_and_result_in_common(pair: Pair) -> None:
    found = list(layer_pairs(pair))
    names = [(item.generated and item.generated.name, item.interpreted and item.interpreted.name) for item in found]
    assert names == [(None, "p"), ("a", "a"), ("b", "b"), ("only here", None)]
    assert found[1] == LayerPair(CONV, pair.interpreted.measurement.layers[1])


def test_differing_answers_are_counted_by_input(pair: Pair) -> None:
    assert pair.differing_answers == 1
    documents = pairs_json([pair])
    assert [document["runtime"] for document in documents] == ["cmsis-nn", "tflm"]
    assert [document["differs_from_other"] for document in documents] == [1, 1]
    assert [document["outputs"]["litert_mismatched"] for document in documents] == [0, 1]


def test_the_tables_show_both_runtimes_and_the_difference(pair: Pair) -> None:
    text = io.StringIO()
    console = Console(file=text, width=160)
    for table in pair_tables([pair]):
        console.print(table)
    shown = text.getvalue()
    assert "-20.0 %" in shown  # 100 against 125
    assert "+25.0 %" in shown  # 50 against 40
    assert "3/3" in shown
    assert "2/3" in shown


def test_an_unknown_runtime_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"unknown runtime 'nn' \(known: cmsis-nn, tflm\)"):
        make_runtime(load_board("mps2-an386"), MeasureOptions(runtime="nn"))
