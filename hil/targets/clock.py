"""What was found about a connected device beside the networks that ran on it: its clock, its temperature."""

from __future__ import annotations

from dataclasses import dataclass

CLOCK_LIMIT = 0.01  # a crystal is 100 times better, an RC oscillator not as good


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The core's clock against the host's, over a loop that took the host `over_s` seconds.

    `device` is its serial number, `claimed_hz` what the firmware says that it set up, `within` how far the host's own
    jitter may have moved `measured_hz` (a fraction). `celsius` is the chip's temperature, None where the port has no
    sensor for it. `at` is when (ISO 8601, UTC).
    """

    device: str
    claimed_hz: int
    measured_hz: int
    over_s: float
    within: float
    at: str
    celsius: float | None = None

    @property
    def off(self) -> float:
        """Signed relative error of the claim: positive when the core is faster."""
        return self.measured_hz / self.claimed_hz - 1.0

    @property
    def is_right(self) -> bool:
        """Whether cycles at the claimed clock are the seconds that they are taken for."""
        return abs(self.off) <= CLOCK_LIMIT

    def words(self) -> str:
        """For a message or a report."""
        warm = "" if self.celsius is None else f", {self.celsius:.0f} °C"
        return f"{self.measured_hz:,} Hz by the host's clock, {100 * self.off:+.2f} %{warm}"
