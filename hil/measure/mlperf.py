"""Latency and results of any firmware that speaks the MLPerf Tiny protocol, measured as its public runner does.

The protocol has no checksums. What can be done without them is: replies must have the exact form and our own numbers in
them, the input is read back before and after, all windows must agree in time and results, and what does not is
measured again. The figure is the median window.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from hil.codegen.plan import Port
from hil.errors import CheckFailed, LinkTimeout, ProtocolError
from hil.link.device import Device
from hil.link.mlperf_protocol import BaseTiming
from hil.patterns import Pattern, PatternKind
from hil.runtimes.base import Expected

ATTEMPTS = 3  # as the public runner asks
WARMUP = 1
AGREEMENT = 0.1  # of the median, within which every window must be
IMAGES = ("vww01", "ic01")  # models whose input MLPerf sends as uint8; it sends float32 to ad01 and int8 to the others
FLOATS = ("ad01",)
DECIMALS = 0.0005  # results have three
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Windows:
    """How long to measure: `count` windows of at least `seconds` of the device's clock each (MLPerf: 5 of 10 s)."""

    count: int = 5
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Network:
    """The network that a device runs, as far as the host knows it."""

    name: str
    input: Port
    output: Port
    expected: Expected


@dataclass(frozen=True, slots=True)
class BaseMeasurement:
    """`windows_us` are microseconds for one inference, one figure a window. `results` are those of one input.

    `read_back`: the device showed the input that it was sent, before and after. `error` is the largest difference of a
    result from LiteRT's, None where there was nothing to compare with.
    """

    vendor: str
    profile: str
    iterations: int
    windows_us: tuple[float, ...]
    results: tuple[float, ...]
    read_back: bool
    error: float | None = None

    @property
    def latency_us(self) -> float:
        """Median over the windows."""
        return statistics.median(self.windows_us)

    def to_json(self) -> dict[str, Any]:
        """For `measure --protocol mlperf --json`."""
        return {
            "protocol": "mlperf", "vendor": self.vendor, "profile": self.profile, "iterations": self.iterations,
            "latency": {
                "unit": "us", "windows": list(self.windows_us), "min": min(self.windows_us),
                "median": self.latency_us, "max": max(self.windows_us),
            },
            "results": list(self.results), "input_read_back": self.read_back, "max_error": self.error,
        }  # fmt: skip


def measure_base(device: Device, data: bytes | None, windows: Windows = Windows()) -> BaseMeasurement:
    """Measure a device in step; `data` is its input in the form that `db` takes (None: the one that it has).

    Raises ProtocolError when windows, results or input do not agree, LinkTimeout, TargetFaultError.
    """
    vendor, profile = _again(device, device.name), _again(device, device.model)
    shown = None if data is None else _load(device, data)
    estimate = _again(device, lambda: device.base_infer(1, WARMUP))
    each_us = max(estimate.elapsed_us, 1)
    iterations = max(10, math.ceil(windows.seconds * 1e6 / each_us))
    silence_s = device.timeouts.silence_s((iterations + WARMUP) * each_us)
    found = [_window(device, iterations, silence_s) for _ in range(windows.count)]
    found = _agreeing(device, found, iterations, silence_s)
    if shown is not None and _again(device, device.buffer) != shown:
        raise ProtocolError("the input changed while it was measured: the device was reset; measure again")
    times = tuple(item.elapsed_us / item.iterations for item in found)
    return BaseMeasurement(vendor, profile, iterations, times, found[0].results, shown is not None)


def _again(device: Device, ask: Callable[[], Value]) -> Value:
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except (ProtocolError, LinkTimeout):
            if attempt == ATTEMPTS - 1:
                raise
            device.synchronise()
    raise AssertionError("unreachable")


def _load(device: Device, data: bytes) -> bytes | None:
    """Load `data`; what the device shows of it, None when it shows nothing."""

    def load() -> bytes | None:
        device.load(data)
        shown = device.buffer()
        if shown is not None and shown != data:
            raise ProtocolError("the device shows another input than it was sent")
        return shown

    return _again(device, load)


def _window(device: Device, iterations: int, silence_s: float) -> BaseTiming:
    return _again(device, lambda: device.base_infer(iterations, WARMUP, silence_s))


def _agreeing(device: Device, found: list[BaseTiming], iterations: int, silence_s: float) -> list[BaseTiming]:
    """`found`, with windows measured again that disagree with most. Raises ProtocolError when that does not help."""
    for _ in range(ATTEMPTS):
        odd = _odd(found)
        if not odd:
            return found
        for index in odd:
            found[index] = _window(device, iterations, silence_s)
    times = [item.elapsed_us for item in found]
    raise ProtocolError(f"windows do not agree in time ({times} us) or in results; no figure of them can be trusted")


def _odd(found: Sequence[BaseTiming]) -> list[int]:
    middle = statistics.median(item.elapsed_us for item in found)
    results = statistics.mode([item.results for item in found])
    return [
        index for index, item in enumerate(found)
        if item.results != results or abs(item.elapsed_us - middle) > AGREEMENT * middle
    ]  # fmt: skip


def sent_as(profile: str, values: bytes, port: Port) -> bytes:
    """The int8 input `values` in the form in which MLPerf sends inputs of this model."""
    array = np.frombuffer(values, np.int8)
    if profile in IMAGES:
        return (array.astype(np.int16) + 128).astype(np.uint8).tobytes()
    if profile in FLOATS:
        return ((array.astype(np.float32) - port.zero_point) * np.float32(port.scale)).astype("<f4").tobytes()
    return values


def measure_model(device: Device, network: Network, seed: int, windows: Windows = Windows()) -> BaseMeasurement:
    """Measure a device that runs a known network by the base protocol alone, on a random input.

    Its results are held against what the network must compute: see `BaseMeasurement.error`. Raises CheckFailed when
    the device answers with another number of results.
    """
    values = Pattern(PatternKind.RANDOM, seed).data(network.input.size)
    profile = _again(device, device.model)
    found = measure_base(device, sent_as(profile, values, network.input), windows)
    output = network.expected.run([np.frombuffer(values, np.int8)])[0].reshape(-1)
    wanted = (output.astype(np.float64) - network.output.zero_point) * network.output.scale
    if len(wanted) != len(found.results):
        raise CheckFailed(f"{len(found.results)} results came back from {network.name} instead of {len(wanted)}")
    return replace(found, error=float(np.abs(wanted - found.results).max()))


def require_exact(found: BaseMeasurement, network: Network) -> None:
    """Raise CheckFailed when a result is further off than its rounding to three decimals: for kernels of ours."""
    largest = max(abs(value) for value in found.results)
    if found.error is None or found.error > DECIMALS + 1e-6 * largest:
        raise CheckFailed(f"results of {network.name} differ from LiteRT's by up to {found.error}")
