"""What TFLM must compute, against the `tflite-micro` Python package, which runs TFLM's own portable kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil.model.load import parse_model
from hil.model.reference import Reference
from hil.runtimes.tflm.network import make_network
from hil.runtimes.tflm.reference import TflmReference, requantised
from tests.networks import small_network


@pytest.mark.parametrize(
    ("total", "significand", "shift", "expected"),
    [
        (0, 1 << 30, 0, 0),
        (1000, 1 << 30, 0, 500),
        (3, 1 << 30, 0, 2),  # half up
        (-3, 1 << 30, 0, -1),
        (1000, 1 << 30, -1, 250),
        (5, 1 << 30, -1, 2),  # rounds twice: 2.5 -> 3, 1.5 -> 2
        (-5, 1 << 30, -1, -1),  # -2.5 -> -2, -1 -> -1
        (7, 1 << 30, 1, 7),
        (-1000, (1 << 31) - 1, -3, -125),
    ],
)
def test_requantisation_rounds_twice(total: int, significand: int, shift: int, expected: int) -> None:
    found = requantised(np.array([total]), np.array([significand]), np.array([shift]))
    assert found.tolist() == [expected]


def test_only_dense_layers_differ_from_litert() -> None:
    """A network without one is LiteRT's; over many inputs a dense one differs somewhere, and by little."""
    rng = np.random.default_rng(3)
    differences = set()
    for seed in range(6):
        data = small_network(seed)
        model, network = parse_model(data, "net"), make_network(data, "net")
        litert, tflm = Reference(data, model), TflmReference(network)
        for _ in range(8):
            values = rng.integers(-128, 128, network.input.shape, np.int8)
            both = [reference.run([values])[0].astype(int) for reference in (litert, tflm)]
            differences |= set(np.unique(np.abs(both[0] - both[1])).tolist())
    assert 0 in differences
    assert max(differences) <= 4


def _interpreter(data: bytes) -> object:
    package = pytest.importorskip("tflite_micro", reason="the tflite-micro package is not installed")
    return package.runtime.Interpreter.from_bytes(data, arena_size=4_000_000)


def _check_against_package(data: bytes, inputs: int) -> None:
    network = make_network(data, "net")
    interpreter, reference = _interpreter(data), TflmReference(network)
    rng = np.random.default_rng(4)
    for _ in range(inputs):
        values = rng.integers(-128, 128, network.input.shape, np.int8)
        interpreter.set_input(values, 0)  # type: ignore[attr-defined]
        interpreter.invoke()  # type: ignore[attr-defined]
        found = np.asarray(interpreter.get_output(0))  # type: ignore[attr-defined]
        assert reference.run([values])[0].tobytes() == found.tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_random_networks_as_in_the_python_package(seed: int) -> None:
    _check_against_package(small_network(seed, dense_per_channel=seed % 2 == 0), 8)


@pytest.mark.parametrize("name", ["ad01_int8", "hello_world_int8", "kws_ref_model", "micro_speech_quantized"])
def test_real_models_as_in_the_python_package(shared: Path, name: str) -> None:
    _check_against_package((shared / "models" / f"{name}.tflite").read_bytes(), 4)
