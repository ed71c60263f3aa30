"""What the boards of a campaign were like while it ran: clocks, warm-up, spread, drift, temperature.

A figure of a board is only as good as the board repeats itself. Emulators count, and count the same every time: they
have no entry here.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hil.measure.measurement import Measurement
from hil.targets.clock import ClockReading


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One connected board. `unsteady` of its `measurements` spread more than the timer explains, by `worst_spread` at
    most (between the slowest and the fastest of the same inference, a fraction of its median). `warm_up` is what the
    first inference after a reset takes more, the median over networks. `clocks` are all that were measured of it.

    `first_network` has the median time of the campaign's first network each time that it was measured again, in order.
    """

    device: str
    measurements: int
    unsteady: int
    worst_spread: float
    warm_up: float | None
    clocks: tuple[ClockReading, ...]
    first_network: tuple[float, ...]

    @property
    def drift(self) -> float | None:
        """How far the first network's time went from its first figure, the largest, signed; None with one figure."""
        first, *later = self.first_network or (0.0,)
        return max((time / first - 1.0 for time in later), key=abs, default=None)

    @property
    def celsius(self) -> tuple[float, ...]:
        """The chip's temperature at each reading that has one."""
        return tuple(item.celsius for item in self.clocks if item.celsius is not None)

    def to_json(self) -> dict[str, Any]:
        """For ``calibrate --json``."""
        return {**asdict(self), "drift": self.drift}


def device_reports(
    measured: Sequence[Measurement], again: Sequence[Measurement], clocks: Sequence[ClockReading] = ()
) -> tuple[DeviceReport, ...]:
    """One report a board, of everything that was `measured`; `again` is the first network, time after time, `clocks`
    what was read beside the measurements."""
    names = sorted({item.device for item in measured if item.device is not None})
    return tuple(
        _report(
            name,
            [item for item in measured if item.device == name],
            [item for item in again if item.device == name],
            [item for item in clocks if item.device == name],
        )
        for name in names
    )


def _report(
    name: str, measured: Sequence[Measurement], again: Sequence[Measurement], clocks: Sequence[ClockReading]
) -> DeviceReport:
    repeated = [item.repeatability for item in measured if item.repeatability is not None]
    return DeviceReport(
        device=name,
        measurements=len(measured),
        unsteady=sum(not item.is_steady for item in repeated),
        worst_spread=max((item.spread / item.median for item in repeated), default=0.0),
        warm_up=statistics.median(item.warm_up for item in repeated) if repeated else None,
        clocks=tuple(dict.fromkeys((*(item.clock for item in measured if item.clock is not None), *clocks))),
        first_network=tuple(
            item.latency.median if item.repeatability is None else item.repeatability.median for item in again
        ),
    )
