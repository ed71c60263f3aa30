"""How long a trial may take follows from its MACs and from what trials have taken here."""

from __future__ import annotations

import pytest

from munas.search.pace import LEAST_LIMIT_S, Pace, Work

WORK = Work(100_000, 20_000, 6_000)


@pytest.mark.parametrize(("macs", "images_per_s"), [(22e3, 31_700), (258e3, 6_420), (3.3e6, 487)])
def test_the_measured_throughput_is_met(macs: float, images_per_s: float) -> None:
    per_image_s = (Work(10**6).seconds(macs) - Work(0).seconds(macs)) / 1e6
    assert 1 / per_image_s == pytest.approx(images_per_s, rel=0.1)


def test_a_larger_network_is_waited_for_longer() -> None:
    pace = Pace(WORK)
    assert pace.limit_s(5e6) > 10 * pace.limit_s(1e5)
    assert pace.limit_s(0) >= LEAST_LIMIT_S


def test_a_slow_machine_is_learnt() -> None:
    pace = Pace(WORK)
    expected = pace.expected_s(1e6)
    for _ in range(3):
        pace.tell(1e6, 4 * expected)
    assert pace.expected_s(1e6) == pytest.approx(4 * expected)
    assert pace.expected_s(2e6) == pytest.approx(4 * WORK.seconds(2e6))
    pace.tell(1e6, 1000 * expected)  # one that hung moves nothing
    assert pace.expected_s(1e6) == pytest.approx(4 * expected)
