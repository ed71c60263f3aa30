"""TFLM's arena, against the `tflite-micro` Python package (64-bit) and against figures taken from a device."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hil.model.load import parse_model
from hil.model.tflite.container import read_container
from hil.runtimes.tflm.abi import CORTEX_M, HOST_64, Abi
from hil.runtimes.tflm.arena import Arena, lifetimes, measure_arena
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.tflite.flatbuffer import write_tflite

# Head and tail as TFLM's interpreter gave them on an emulated Cortex-M4 (CMSIS-NN kernels, GCC 12.2).
DEVICE_BYTES = {
    "ad01_int8": (768, 1812),
    "hello_world_int8": (32, 740),
    "kws_ref_model": (16000, 6820),
    "micro_speech_quantized": (5968, 868),
    "person_detect": (55296, 27012),
    "pretrainedResnet_quant": (49728, 5268),
    "vww_96_int8": (73728, 26980),
}


def arena_of(data: bytes, abi: Abi = CORTEX_M) -> Arena:
    return measure_arena(read_container(data), parse_model(data, "network"), abi)


def random_network(seed: int, most_weights: int = 300_000) -> bytes:
    """A random µNAS network as .tflite: the first of `seed`'s that is small enough to be written quickly."""
    shape = ((28, 28, 1), (32, 32, 3), (49, 40, 1))[seed % 3]
    for attempt in range(100):
        graph = build_graph(random_cnn(np.random.default_rng([seed, attempt])), shape, 10)
        if graph.model_size <= most_weights and graph.macs <= 20_000_000:
            return write_tflite(graph, seed, dense_per_channel=seed % 2 == 0)
    raise AssertionError(f"no small network from seed {seed}")


@pytest.mark.parametrize("name", DEVICE_BYTES)
def test_real_models_as_on_the_device(shared: Path, name: str) -> None:
    arena = arena_of((shared / "models" / f"{name}.tflite").read_bytes())
    assert (arena.head_bytes, arena.tail_bytes) == DEVICE_BYTES[name]


def test_required_is_never_below_used_and_aligned() -> None:
    for seed in range(6):
        arena = arena_of(random_network(seed))
        assert arena.required_bytes >= arena.used_bytes == arena.head_bytes + arena.tail_bytes
        assert arena.required_bytes % 16 == 0


def test_small_networks_need_more_to_start_than_to_run(shared: Path) -> None:
    """Planning memory of three tiny layers takes more than the layers: an arena of arena_used_bytes() is too small."""
    arena = arena_of((shared / "models" / "hello_world_int8.tflite").read_bytes())
    assert arena.required_bytes > arena.used_bytes + 256


def test_ports_lie_in_the_head() -> None:
    for seed in range(6):
        arena = arena_of(random_network(seed))
        assert 0 <= arena.input_offset < arena.head_bytes
        assert 0 <= arena.output_offset < arena.head_bytes


def test_scratch_lives_with_its_operator_only() -> None:
    container = read_container(random_network(1))
    scratch = [(40,)] * len(container.operators)
    tensors, buffers = lifetimes(container, scratch)
    assert [(buffer.size_bytes, buffer.first, buffer.last) for buffer in buffers] == [
        (48, step, step) for step in range(1, len(container.operators) + 1)
    ]
    assert tensors[container.inputs[0]].first == 0
    assert tensors[container.outputs[0]].last == len(container.operators)


def test_per_channel_dense_layers_keep_their_multipliers() -> None:
    graph = build_graph(random_cnn(np.random.default_rng(5)), (28, 28, 1), 10)
    per_channel, per_tensor = (
        arena_of(write_tflite(graph, 1, dense_per_channel=per_channel)) for per_channel in (True, False)
    )
    units = [operator.out_shape[-1] for operator in graph.operators if operator.kind == "Dense"]
    assert per_channel.head_bytes == per_tensor.head_bytes
    least = sum(8 * count for count in units)
    assert least <= per_channel.tail_bytes - per_tensor.tail_bytes <= least + 32 * len(units)


def test_sizes_of_the_abi_count() -> None:
    data = random_network(2)
    larger = replace(CORTEX_M, eval_tensor=replace(CORTEX_M.eval_tensor, bytes=16))
    tensors = len(read_container(data).tensors)
    assert arena_of(data, larger).tail_bytes - arena_of(data).tail_bytes == pytest.approx(4 * tensors, abs=16)


def _package_bytes(data: bytes, capfd: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """Head and tail as the Python package's interpreter prints them."""
    runtime = pytest.importorskip("tflite_micro", reason="the tflite-micro package is not installed").runtime
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=4_000_000)
    capfd.readouterr()
    interpreter.print_allocations()
    printed = "".join(capfd.readouterr())
    found = [re.search(rf"allocation {end} (\d+) bytes", printed) for end in ("head", "tail")]
    assert all(found), printed
    head, tail = (int(match[1]) for match in found if match)
    return head, tail


@pytest.mark.parametrize("name", DEVICE_BYTES)
def test_real_models_as_in_the_python_package(shared: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    arena = arena_of(data, HOST_64)
    assert (arena.head_bytes, arena.tail_bytes) == _package_bytes(data, capfd)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_as_in_the_python_package(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    data = random_network(seed)
    arena = arena_of(data, HOST_64)
    assert (arena.head_bytes, arena.tail_bytes) == _package_bytes(data, capfd)
