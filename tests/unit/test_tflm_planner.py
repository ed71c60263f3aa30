"""TFLM's greedy placement: hand-made cases worked out from its rules, and what any placement has to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.runtimes.tflm.planner import Lifetime, Placement, place_greedily


@pytest.mark.parametrize(
    ("buffers", "offsets", "size"),
    [
        ([], (), 0),
        ([(16, 0, 0)], (0,), 16),
        # a chain: the largest is at 0, its neighbours in time above it, and those two share
        ([(32, 0, 1), (64, 1, 2), (32, 2, 3)], (64, 0, 64), 96),
        # of equal sizes, the one added last is placed first
        ([(32, 0, 1), (32, 1, 2)], (32, 0), 64),
        # the gap between two placed buffers is used when it is large enough ...
        ([(96, 0, 0), (64, 0, 1), (48, 2, 2), (32, 1, 2)], (0, 96, 0, 48), 160),
        # ... and one byte less room sends it to the end
        ([(96, 0, 0), (64, 0, 1), (80, 2, 2), (32, 1, 2)], (0, 96, 0, 160), 192),
        # lifetimes that only touch the others' gaps all start at 0
        ([(48, 0, 0), (32, 1, 1), (16, 2, 2)], (0, 0, 0), 48),
    ],
)
def test_hand_made_cases(buffers: list[tuple[int, int, int]], offsets: tuple[int, ...], size: int) -> None:
    assert place_greedily([Lifetime(*buffer) for buffer in buffers]) == Placement(offsets, size)


_BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Lifetime(16 * size, first, first + length),
        st.integers(1, 40),
        st.integers(0, 12),
        st.integers(0, 4),
    ),
    max_size=24,
)


@given(_BUFFERS)
def test_buffers_that_live_at_the_same_time_never_overlap(buffers: list[Lifetime]) -> None:
    placement = place_greedily(buffers)
    placed = list(zip(placement.offsets, buffers, strict=True))
    for index, (offset, buffer) in enumerate(placed):
        assert offset >= 0
        assert offset + buffer.size_bytes <= placement.size_bytes
        for other_offset, other in placed[:index]:
            apart = offset + buffer.size_bytes <= other_offset or other_offset + other.size_bytes <= offset
            assert apart or not buffer.meets(other)
    assert placement.size_bytes == max((offset + buffer.size_bytes for offset, buffer in placed), default=0)


@given(_BUFFERS)
def test_no_buffer_could_move_down_into_free_memory_below_its_neighbours(buffers: list[Lifetime]) -> None:
    """First fit: below the lowest neighbour in time of a buffer that is not at 0 there is no room for it."""
    placement = place_greedily(buffers)
    order = sorted(range(len(buffers)), key=lambda index: (-buffers[index].size_bytes, -index))
    for position, index in enumerate(order):
        before = [placement.offsets[other] for other in order[:position] if buffers[other].meets(buffers[index])]
        if placement.offsets[index] > 0:
            assert min(before) < buffers[index].size_bytes
