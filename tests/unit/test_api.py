"""What programs may import, that importing it is cheap, and that it does what the command line does."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hil
import munas
from tests.networks import small_network

HEAVY = {"numpy", "scipy", "pydantic", "ai_edge_litert", "tensorflow", "rich", "jinja2"}


@pytest.mark.parametrize("module", [hil, munas])
def test_every_name_is_there_and_documented(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    for name in names:
        value = getattr(module, name)
        assert name == "__version__" or not callable(value) or value.__doc__, name


def test_importing_costs_nothing() -> None:
    code = f"import sys, hil; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == []


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'measure_all'"):
        hil.measure_all  # noqa: B018


def test_a_board_may_be_named() -> None:
    with pytest.raises(hil.BoardError, match="did you mean mps2-an386"):
        hil.Harness("mps2-an38")


@pytest.mark.qemu
@pytest.mark.slow
def test_a_network_is_measured_by_path_and_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_network(1))
    with hil.Harness("mps2-an386", via="qemu") as harness:
        first, second = harness.measure(path), harness.measure(path.read_bytes(), "net")
    assert (first.model, first.latency, first.memory) == (second.model, second.latency, second.memory)
    assert first.identity == harness.identity
    with pytest.raises(hil.UsageError, match="was closed"):
        harness.measure(path)


@pytest.mark.firmware
def test_generate_writes_the_port_of_the_real_board(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_network(1))
    real = hil.generate(path, tmp_path / "real", "nucleo-f746zg")
    emulated = hil.generate(path, tmp_path / "emulated", "nucleo-f746zg", via="qemu")
    only = hil.generate(path, tmp_path / "only", "mps2-an500")
    ports = [{file.name for file in files if file.parent.name == "port"} for files in (real, emulated, only)]
    assert "stm32f7.c" in ports[0]
    assert all("mps2.c" in names and "stm32f7.c" not in names for names in ports[1:])


def test_a_calibration_that_is_not_there_is_asked_for_with_its_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hil.UsageError, match="calibrate --board mps2-an386 --runtime tflm"):
        hil.load_calibration("mps2-an386", via="qemu", runtime="tflm")
