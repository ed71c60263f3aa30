"""What the host makes of a faulty line: operations and whole measurements, each with the only right answer known."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from hil.errors import HilError
from hil.link import protocol
from hil.link.device import Device, Timeouts
from hil.link.transport import ReconnectingPort
from hil.measure.harness import Options
from hil.measure.reader import Reader
from hil.patterns import Pattern, PatternKind, verification_patterns
from hil.targets.runners.base import Session
from tests.faults import host_device
from tests.faults.faulty import FaultyLine, Target
from tests.faults.host_device import HostDevice, layer_ticks, output, ticks

SHORT = Timeouts(boot_s=0.3, command_s=0.15, inference_s=0.15)
INPUT_BYTES, ZERO_POINT = host_device.INPUT_BYTES, host_device.ZERO_POINT


class Hosted(Target, Protocol):
    """A device that ends with the test."""

    def stop(self) -> None: ...


@dataclass
class Outcome:
    """Counts of one row of the table. `wrong` must be 0; `kinds` has the failures by type of error."""

    name: str
    tried: int = 0
    succeeded: int = 0
    wrong: int = 0
    exchanges: int = 0
    retries: int = 0
    slowest_s: float = 0.0
    struck: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def count(self, right: bool | HilError, started: float) -> None:
        """One more operation or measurement."""
        self.tried += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        if isinstance(right, HilError):
            self.kinds[type(right).__name__] += 1
        elif right:
            self.succeeded += 1
        else:
            self.wrong += 1

    def merged(self, other: Outcome) -> Outcome:
        """Both as one."""
        return Outcome(
            self.name, self.tried + other.tried, self.succeeded + other.succeeded, self.wrong + other.wrong,
            self.exchanges + other.exchanges, self.retries + other.retries, max(self.slowest_s, other.slowest_s),
            self.struck + other.struck, self.kinds + other.kinds,
        )  # fmt: skip

    def absorb(self, line: FaultyLine, device: Device) -> None:
        """What the line and the device counted."""
        self.exchanges += line.exchanges
        self.retries += device.retries
        self.struck += line.struck


def operation(device: Device, rng: random.Random) -> bool:
    """Something that a host asks of a device; whether the answer was right."""
    pattern = Pattern(rng.choice(list(PatternKind)), rng.getrandbits(32))
    data = pattern.data(INPUT_BYTES, ZERO_POINT)
    choice = rng.randrange(7)
    if choice == 0:
        return device.answer(pattern) == (ticks(data), output(data))
    if choice == 1:
        reply = device.run(pattern)
        return (reply.ticks, reply.output_crc) == (ticks(data), protocol.crc32(output(data)))
    if choice == 2:
        data = rng.randbytes(INPUT_BYTES)
        device.upload(data)
        return device.answer() == (ticks(data), output(data))
    if choice == 3:
        return device.memory().arena_used == 1024 + INPUT_BYTES
    crc = device.fill(pattern)
    if choice == 4:
        return device.infer(40, 1) == [ticks(data)] * 40
    if choice == 5:
        return device.profile() == layer_ticks(data)
    return crc == protocol.crc32(data)


def exchanges(
    faults: Sequence[str], count: int, seed: int, rate: float = 0.01, make: Callable[[], Hosted] = HostDevice
) -> Outcome:
    """Operations on one device until `count` exchanges have happened."""
    outcome, rng = Outcome(" + ".join(faults) if len(faults) < 3 else "all"), random.Random(seed)
    host = make()
    try:
        line = FaultyLine(host, faults, rate, random.Random(seed + 1))
        line.boot()
        device = Device(ReconnectingPort(line.open), SHORT)
        device.wait_ready()
        while line.exchanges < count:
            started = time.monotonic()
            try:
                outcome.count(operation(device, rng), started)
            except HilError as error:
                outcome.count(error, started)
        outcome.absorb(line, device)
    finally:
        host.stop()
    return outcome


_SIZES = SimpleNamespace(
    stack_reserved=2048, static_ram=0, ram_total=0, weights=0, code=0, flash_total=0, arena=4096
)  # fmt: skip


def _expected(options: Options) -> Any:
    """The figures of a measurement: samples, layers, arena, outputs."""
    inputs = [item.data(INPUT_BYTES, ZERO_POINT) for item in verification_patterns(options.inputs, options.seed)]
    samples = tuple(ticks(data) for data in inputs)
    return samples, tuple(layer_ticks(inputs[0])), 1024 + INPUT_BYTES, tuple(output(data) for data in inputs)


def measurement(line: FaultyLine, options: Options) -> tuple[Device, bool | HilError]:
    """All that `measure` does with a booted device (hil.measure.harness), and whether every figure was right."""
    port = ReconnectingPort(line.open)
    device, session = Device(port, SHORT), Session(port, "qemu", True, "modelled-cycles")
    parts: Any = (session, device, SimpleNamespace(arena_bytes=4096, model_name="host"))
    project: Any = SimpleNamespace(build_id=host_device.BUILD_ID)
    image: Any = SimpleNamespace(sizes=_SIZES, stack_bound=None)  # the host's stack has no call graph that is known
    try:
        device.wait_ready()
        patterns = verification_patterns(options.inputs, options.seed)
        found = Reader(*parts, project, image).figures(patterns, _expected(options)[-1])
    except HilError as error:
        return device, error
    figures = (found.samples, found.layers, found.memory.arena_used, found.answers)
    return device, figures == _expected(options)


def measurements(
    faults: Sequence[str], count: int, seed: int, rate: float = 0.01, make: Callable[[], Hosted] = HostDevice
) -> Outcome:
    """`count` measurements, each from a reset on."""
    outcome = Outcome("measurements, all")
    host = make()
    try:
        for index in range(count):
            line = FaultyLine(host, faults, rate, random.Random(f"{seed} {index}"))
            started = time.monotonic()
            line.boot()
            device, right = measurement(line, Options(inputs=8, seed=index))
            outcome.count(right, started)
            outcome.absorb(line, device)
    finally:
        host.stop()
    return outcome
