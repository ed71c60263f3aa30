"""The simulated bench of 200 boards: its figure in the docs, and boards that break."""

from __future__ import annotations

import pytest

from tests.estimates.many_boards import simulate


@pytest.mark.parametrize(("per_board", "least"), [(1, 0.95), (2, 0.99)])
def test_placement_keeps_the_boards_busy(per_board: int, least: float) -> None:
    """Every network is done once, though boards break (`simulate` asserts it)."""
    share, _ = simulate(4000, per_board)
    assert least < share <= 1.0
