"""What a booted device is asked for: the time of its layers, of each input, its answers, its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.build.image import Image
from hil.build.sources import Project
from hil.cycle_model.record import InferenceRecord
from hil.errors import DeviceLost, FlashError, InfrastructureError, TargetFaultError
from hil.link.device import Device
from hil.link.protocol import DeviceIdentity, MemoryReport
from hil.measure.measurement import Memory, Repeatability
from hil.patterns import FloatPattern, Pattern
from hil.runtimes.base import Deployment
from hil.targets.runners.base import Session

REPEATS = 8


@dataclass(frozen=True, slots=True)
class Figures:
    """`samples` (one an input) and `layers` in the timer's unit; `answers` are the outputs, one an input.

    `repeatability` is None via an emulator.
    """

    samples: tuple[int, ...]
    layers: tuple[int, ...]
    memory: Memory
    answers: tuple[bytes, ...]
    records: tuple[InferenceRecord, ...]
    repeatability: Repeatability | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Asks one booted device for all that is measured on it."""

    session: Session
    device: Device
    plan: Deployment
    project: Project
    image: Image

    def figures(self, patterns: Sequence[Pattern | FloatPattern], expected: Sequence[bytes]) -> Figures:
        """Time the layers, then run every input, timing each, and read the memory.

        `expected` are the outputs, one an input. The first is read from the device whatever its CRC-32 is, so that the
        device's way to compute one is seen to be ours; of the others those that are long are read where it differs.
        Raises LinkError, RunnerError, TargetFaultError, InfrastructureError.
        """
        device = self.device
        found = device.identity()
        self.check(found)
        self._give(patterns[0])
        cold = None if self.session.simulated else device.infer(1, 0)[0]
        layers = device.profile()  # also the warm-up
        self.session.new_records()  # of that one
        runs, records = self._answers(patterns, expected)
        repeated = None if cold is None else self._repeated(cold, patterns[0])
        memory = device.memory()
        arena = found.arena_bytes  # as planned; or what an interpreter on the device says that it needs
        if memory.arena_used > arena:
            raise TargetFaultError(
                f"BUG: an inference of {self.plan.model_name} wrote {memory.arena_used - arena} bytes "
                f"behind its arena of {arena}; no figure of it can be trusted, report this"
            )
        units = self.session.ticks_to_units
        sizes = self.image.sizes
        return Figures(
            samples=tuple(units(ticks) for ticks, _ in runs),
            layers=tuple(units(ticks) for ticks in layers),
            memory=Memory(
                arena_planned=arena,
                arena_used=memory.arena_used,
                stack_used=memory.stack_used,
                stack_reserved=sizes.stack_reserved,
                static_ram=sizes.static_ram,
                ram_total=sizes.ram_total - sizes.arena + arena,
                flash_weights=sizes.weights,
                flash_code=sizes.code,
                flash_total=sizes.flash_total,
                stack_bound=self._stack_bound(memory),
            ),
            answers=tuple(output for _, output in runs),
            records=records,
            repeatability=repeated,
        )

    def _give(self, pattern: Pattern | FloatPattern) -> None:
        """Make `pattern` the device's input."""
        if isinstance(pattern, Pattern):
            self.device.fill(pattern)
        else:
            self.device.upload(pattern.data(self.plan.input.size))

    def _answer(self, pattern: Pattern | FloatPattern, expected: bytes | None) -> tuple[int, bytes]:
        """Ticks and output of one inference."""
        if isinstance(pattern, Pattern):
            return self.device.answer(pattern, expected)
        self._give(pattern)
        return self.device.answer(expected=expected)

    def _repeated(self, cold: int, pattern: Pattern | FloatPattern) -> Repeatability:
        """The inference that was the first one again, when all is warm."""
        self._give(pattern)
        units = self.session.ticks_to_units
        return Repeatability(units(cold), tuple(map(units, self.device.infer(REPEATS, 1))))

    def _stack_bound(self, seen: MemoryReport) -> int:
        """The image's, 0 where there is none. Raises InfrastructureError where painting shows more."""
        bound = self.image.stack_bound
        if bound is not None and max(seen.stack_used, seen.stack_peak) > bound:
            raise InfrastructureError(
                f"BUG: {self.plan.model_name} used {max(seen.stack_used, seen.stack_peak)} bytes of stack, "
                f"{bound} at most by its call graph; report this"
            )
        return bound or 0

    def _answers(
        self, patterns: Sequence[Pattern | FloatPattern], expected: Sequence[bytes]
    ) -> tuple[list[tuple[int, bytes]], tuple[InferenceRecord, ...]]:
        """Ticks and output for each pattern; and the timing model's record, where there is one."""
        runs, records = list[tuple[int, bytes]](), list[InferenceRecord]()
        for pattern, output in zip(patterns, expected, strict=True):
            runs.append(self._answer(pattern, output if runs else None))
            records += self.session.new_records()[-1:]  # a command that was sent again has also run again
        return runs, tuple(records)

    def check(self, found: DeviceIdentity) -> None:
        """That the device runs this very build, with the timer that its figures will be labelled with."""
        if found.build_id != self.project.build_id:
            raise FlashError(f"the device runs build {found.build_id}, not {self.project.build_id}: it was not flashed")
        if found.timer != self.session.timer:
            raise InfrastructureError(f"the device times with {found.timer}, {self.session.timer} was expected")
        if self.session.ticks_hz in (None, found.ticks_hz):
            return
        board = self.session.device
        if self.session.simulated:
            problem = f"the emulated timer runs at {found.ticks_hz} Hz, {self.session.ticks_hz} Hz was expected"
        else:
            problem = (
                f"the device's clock runs at {found.ticks_hz} Hz instead of {self.session.ticks_hz}: its clock tree "
                "did not start (oscillator or clock bridge); cycles at that clock are not the board's"
            )
        raise DeviceLost(board, f"device {board}: {problem}") if board else InfrastructureError(problem)
