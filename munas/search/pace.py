"""How long trials take: by the MACs of their networks, corrected by what the trials so far have taken.

On one idle core of the development machine a training image takes 20 us and 0.58 ns a MAC: 31,700 images a second of a
network of 22 K MACs, 6,420 at 258 K and 487 at 3.3 M were measured at 28x28x1, which this meets within a tenth.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

_IMAGE_S, _MAC_S = 2e-5, 5.8e-10  # forwards, backwards and the update
_FORWARD = 0.35  # of that, for an image that is only validated on
_INT8_MAC_S = 5e-10  # LiteRT: 9.5 s for 6,000 images at 3.3 M MACs
_ASIDE_S = 4.0  # to start a worker, compile the step, convert: whatever the network

_REMEMBERED = 32  # trials
_SLACK = 5.0  # over what is expected: other programs run as well
_UNKNOWN_SLACK = 20.0  # before the machine has shown anything
LEAST_LIMIT_S = 300.0  # for a hang; a busy machine takes ten times as long as an idle one without any


@dataclass(frozen=True, slots=True)
class Work:
    """What a trial does whatever its network: images trained on, images validated on in float and in int8."""

    trained: int
    validated: int = 0
    converted: int = 0

    def seconds(self, macs: float) -> float:
        """On one idle core, with a network of `macs` MACs."""
        images = self.trained + _FORWARD * self.validated
        return _ASIDE_S + images * (_IMAGE_S + _MAC_S * macs) + self.converted * _INT8_MAC_S * macs


class Pace:
    """What a trial may be expected to take here, and how long it is waited for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)

    def tell(self, macs: float, seconds: float) -> None:
        """A trial of a network of `macs` MACs took (or did not end within) so many seconds of all its work."""
        self._ratios.append(seconds / self._work.seconds(macs))

    def expected_s(self, macs: float) -> float:
        """The work at the pace of the last trials (median)."""
        return self._work.seconds(macs) * (statistics.median(self._ratios) if self._ratios else 1.0)

    def limit_s(self, macs: float) -> float:
        """After which a trial of that many MACs has hung."""
        return max(LEAST_LIMIT_S, (_SLACK if self._ratios else _UNKNOWN_SLACK) * self.expected_s(macs))
