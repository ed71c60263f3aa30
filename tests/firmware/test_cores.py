"""Every core that there is a file for runs our firmware: bit-equal outputs, exact counts, faults that are told."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hil.boards.board import load_board
from hil.boards.core import core_names, load_core
from hil.errors import BoardError, TargetFaultError
from hil.measure.harness import Harness, Options
from hil.patterns import Pattern, PatternKind
from hil.targets.runners.qemu import QEMU
from munas.arch.graph import build_graph
from munas.arch.space import parse_architecture
from munas.tflite.flatbuffer import write_tflite
from tests.firmware import images
from tests.networks import small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]


@pytest.mark.parametrize("core", core_names())
def test_a_network_runs_bit_equal_and_counts_the_same_twice(core: str) -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    harness = Harness(load_board(images.MACHINES[core]), Options())
    first, second = (harness.measure(small_network(42), "net").measurement for _ in range(2))
    assert (first.outputs.checked, first.outputs.mismatched) == (8, 0)
    assert first.latency.samples == second.latency.samples
    assert first.layers == second.layers
    assert first.memory.stack_used < first.memory.stack_reserved


@pytest.mark.slow
@pytest.mark.parametrize("core", core_names())
@pytest.mark.parametrize("count", [1, 12_345])
def test_instructions_are_counted_exactly(
    core: str, count: int, build: Callable[..., Path], boot: Callable[..., AbstractContextManager[Any]]
) -> None:
    """That a count repeats does not say that the timer's tick is what the table of machines says."""
    with boot(build(images.header(layers=1) + images.countdown(count), core), core) as (session, device):
        assert session.ticks_to_units(device.run(Pattern(PatternKind.RANDOM, 1)).ticks) == 2 * count + 2


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m33", "cortex-m55"])
@pytest.mark.parametrize("fault", ["recursion", "frame", "undefined"])
def test_faults_are_told_as_on_the_others(
    core: str, fault: str, build: Callable[..., Path], boot: Callable[..., AbstractContextManager[Any]]
) -> None:
    """Armv8-M has a limit for its stack pointer where the others have a guard of the MPU."""
    image = build(images.header() + images.FAULTS[fault], core)
    with pytest.raises(TargetFaultError) as caught, boot(image, core) as (_, device):
        device.run(Pattern(PatternKind.RANDOM, 1))
    assert ("stack overflowed" in str(caught.value)) == (fault != "undefined")


def test_without_the_dsp_extension_the_same_results(tmp_path: Path) -> None:
    """hil_no_dsp.h is for cores without it alone; its results are those of every network on the Cortex-M3."""
    images.need_toolchain()
    source = tmp_path / "uses.c"
    source.write_text(
        '#include "hil_no_dsp.h"\nuint32_t f(uint32_t a, uint32_t b) { return __SMLAD(a, b, __SXTB16(a)); }\n'
    )
    flags = [f"-I{images.FIRMWARE / 'kernels'}", "-c", str(source), "-o", str(tmp_path / "uses.o")]
    subprocess.run([images.GCC, *load_core("cortex-m3").flags, *images.FLAGS, *flags], check=True, timeout=60)
    refused = subprocess.run(
        [images.GCC, *load_core("cortex-m4").flags, *images.FLAGS, *flags], capture_output=True, text=True, timeout=60
    )
    assert "this core has the DSP extension" in refused.stderr


def test_helium_does_the_inner_loops() -> None:
    """A Cortex-M33, whose loops are assembly for the DSP extension, takes 1.8 times the instructions."""
    images.need_toolchain()
    layer = {"type": "Conv2D", "filters": 32, "has_bn": False, "has_relu": True, "has_prepool": False}
    layers = [layer | {"ker_size": 3, "2x_stride": False} for _ in range(2)]
    document = {
        "conv_blocks": [{"is_branch": False, "layers": layers}],
        "pooling": {"type": "avg", "pool_size": 2},
        "dense_blocks": [{"units": 16, "activation": "relu"}],
    }
    network = write_tflite(build_graph(parse_architecture(document), (16, 16, 3), 10), 1)
    counts = [
        Harness(load_board(images.MACHINES[core]), Options()).measure(network, "net").measurement.latency.median
        for core in ("cortex-m33", "cortex-m55")
    ]
    assert counts[1] < 0.6 * counts[0], counts


def test_a_core_without_a_cycle_model_has_counts_only() -> None:
    images.need_toolchain()
    harness = Harness(load_board("mps3-an547"), Options(modelled="beside"))
    with pytest.raises(BoardError, match=r"core cortex-m55 has no cycle model \(known: cortex-m4, cortex-m7,"):
        harness.measure(small_network(42), "net")


@pytest.mark.parametrize(("board", "milliseconds"), [("nucleo-u575zi-q", True), ("raspberry-pi-pico-2", False)])
def test_milliseconds_only_where_a_chip_has_evidence(board: str, milliseconds: bool) -> None:
    """Two chips with a Cortex-M33: published figures of the first one's; the second's flash is outside of the chip."""
    images.need_toolchain()
    harness = Harness(load_board(board), Options(modelled="beside"))
    found = harness.measure(small_network(42), "net").measurement.modelled
    assert found is not None
    assert found.median > 0
    assert (found.milliseconds is not None) == milliseconds
    assert (found.reason is None) == milliseconds
    assert milliseconds or "no evidence for the constants of this chip" in str(found.reason)
