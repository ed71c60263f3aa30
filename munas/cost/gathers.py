"""Trips of the loops in which firmware/kernels gathers windows: conv.c with gather.c, depthwise.c, and depthwise_3x3.c
with planes.c. Per inference.

What they do depends on where the window lies on the input, which `munas.cost.kernels.Work` has no fields for: its
`trips` are these counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Trips = tuple[int, ...]
Clips = Counter[tuple[int, int]]
"""How often which part of the window (from, to before) is on the input along one axis."""

CONV_TRIPS = (
    "output_rows", "clips_above", "clips_below",
    "pixels", "clips_left", "clips_right", "odd_ends", "clipped_pixels", "clipped_rows", "rows_above", "rows_below",
    "runs", "run_rows", "run_shifts", "run_entered", "run_fours", "run_pairs", "run_lasts",
    "fills", "fill_shifts", "fill_entered", "fill_pairs",
    "pixels_in_fours", "clips_left_in_fours", "clips_right_in_fours", "clipped_pixels_in_fours",
    "clipped_rows_in_fours", "rows_above_in_fours", "rows_below_in_fours",
    "fours_runs", "fours_rows", "fours_entered", "fours_sixteens", "fours_rests", "fours_singles",
    "fours_fills", "fours_filled",
)  # fmt: skip
"""Where channels are divisible by four, and not dilated, they are widened in fours; else in runs. A pixel is clipped
when its window is not all inside, or dilated: then it is gathered row by row. "entered" are loops that run at all."""

DW_TRIPS = (
    "output_rows", "groups", "direct_runs", "gathers", "gathered_rows", "rows_outside", "copied_fours", "copied_rests",
    "filled", "few_pixels", "few_channels", "gathered_runs", "few_outputs",
)  # fmt: skip
"""Less than four channels are "few"."""

PLANE_TRIPS = (
    "bands", "tiles", "tile_groups", "tile_rests", "columns", "columns_above", "columns_inside", "columns_below",
    "spread", "spread_padding", "planes", "plane_rows", "odd_rows", "rows_of_one", "pairs",
)  # fmt: skip
"""Of depthwise convolutions of 3 x 3, behind what they would do as others (`DW_TRIPS`). A column of a tile is gathered
above, on and below the input. `tile_rests` are groups of less than four channels. `rows_of_one` have a single output
and no pair, but are `odd_rows` as well; so is a single output at the end of a row one of `pairs`."""

TAPS_WIDTH, GATHERED_WORDS = 7, 192
PLANE_ROWS, PLANE_PAIRS = 6, 8
_FEW_PIXELS, _STORED = 12, 16  # constants of firmware/kernels/depthwise.c, as the two above


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pool: (height, width) pairs; `padding` is (top, bottom, left, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def size(self) -> int:
        """Positions in the window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def spread(self) -> tuple[int, int]:
        """Dilation with axes of one element, where it has no effect, set to 1."""
        return (
            self.dilation[0] if self.kernel[0] > 1 else 1,
            self.dilation[1] if self.kernel[1] > 1 else 1,
        )


def clips(inputs: int, outputs: int, kernel: int, stride: int, before: int, dilation: int) -> Clips:
    """The clips of `outputs` windows along one axis of `inputs` elements, `before` of padding in front of it."""
    found: Clips = Counter()
    for index in range(outputs):
        start = index * stride - before
        first = min(kernel, max(0, -(start // dilation)))  # ceil(-start / dilation)
        found[first, max(first, min(kernel, -((start - inputs) // dilation)))] += 1
    return found


def axes(in_shape: Sequence[int], out_shape: Sequence[int], window: Window) -> tuple[Clips, Clips]:
    """Clips of rows and columns."""
    if window.padding == (0, 0, 0, 0):
        return Counter({(0, window.kernel[0]): out_shape[0]}), Counter({(0, window.kernel[1]): out_shape[1]})
    (top, _, left, _), spread = window.padding, window.spread
    return (
        clips(in_shape[0], out_shape[0], window.kernel[0], window.stride[0], top, spread[0]),
        clips(in_shape[1], out_shape[1], window.kernel[1], window.stride[1], left, spread[1]),
    )


class _Gathered:
    """Adds up what conv.c does for one pixel, times how many pixels there are."""

    def __init__(self) -> None:
        self.runs = self.rows = self.shifts = self.entered = self.fours = self.pairs = self.lasts = 0
        self.fills = self.fill_shifts = self.fill_entered = self.fill_pairs = 0

    def run(self, starts: Sequence[int], length: int, times: int) -> None:
        """One call of hil_gather: rows of `length` columns that begin at columns `starts`."""
        self.runs += times
        self.rows += times * len(starts)
        for start in starts:
            rest = length - start % 2
            self.shifts += times * (start % 2)
            self.entered += times * (rest >= 4)
            self.fours += times * (rest // 4)
            self.pairs += times * (rest % 4 // 2)
            self.lasts += times * (rest % 2)

    def fill(self, at: int, count: int, times: int) -> None:
        rest = count - at % 2
        self.fills += times
        self.fill_shifts += times * (at % 2)
        self.fill_entered += times * (rest >= 2)
        self.fill_pairs += times * (rest // 2)

    @property
    def counts(self) -> Trips:
        """From "runs" to "fill_pairs"."""
        return (
            self.runs, self.rows, self.shifts, self.entered, self.fours, self.pairs, self.lasts,
            self.fills, self.fill_shifts, self.fill_entered, self.fill_pairs,
        )  # fmt: skip


class _GatheredFours:
    """The same where channels are divisible by four."""

    def __init__(self) -> None:
        self.runs = self.rows = self.entered = self.sixteens = self.rests = self.singles = self.fills = self.filled = 0

    def run(self, rows: int, length: int, times: int) -> None:
        """One call of hil_gather_fours."""
        fours = length // 4
        self.runs += times
        self.rows += times * rows
        self.entered += times * rows * (fours >= 4)
        self.sixteens += times * rows * (fours // 4)
        self.rests += times * rows * (fours % 4 > 0)
        self.singles += times * rows * (fours % 4)

    def fill(self, count: int, times: int) -> None:
        self.fills += times
        self.filled += times * (count // 4)

    @property
    def counts(self) -> Trips:
        """From "fours_runs" on."""
        return (
            self.runs, self.rows, self.entered, self.sixteens, self.rests, self.singles, self.fills, self.filled,
        )  # fmt: skip


_NO_STREAMS, _NO_FOURS = (0,) * 19, (0,) * 15  # of CONV_TRIPS, those that the other way to gather has


def conv_trips(in_shape: Sequence[int], out_shape: Sequence[int], window: Window) -> Trips:
    """`CONV_TRIPS` of a convolution from (H, W, C) to (H, W, C) that gathers windows (im2col)."""
    (height, width), channels, dilation = window.kernel, in_shape[2], window.spread[1]
    pixels, length = out_shape[0] * out_shape[1], width * channels
    in_fours = channels % 4 == 0 and dilation == 1
    if window.padding == (0, 0, 0, 0) and dilation == 1:
        inside = (pixels, 0, 0)
        if in_fours:
            fours = _GatheredFours()
            fours.run(height, length, pixels)
            return (out_shape[0], 0, 0, *_NO_STREAMS, *inside, 0, 0, 0, 0, *fours.counts)
        made = _Gathered()
        made.run([row * length for row in range(height)], length, pixels)
        odd = pixels * (height * length % 2)
        return (out_shape[0], 0, 0, *inside, odd, 0, 0, 0, 0, *made.counts, *_NO_FOURS)
    rows, columns = axes(in_shape, out_shape, window)
    above = sum(top * count for (top, _), count in rows.items())
    below = sum((height - bottom) * count for (_, bottom), count in rows.items())
    left = out_shape[0] * sum(first * count for (first, _), count in columns.items())
    right = out_shape[0] * sum((width - end) * count for (_, end), count in columns.items())
    whole = 0 if dilation > 1 else rows[0, height] * columns[0, width]
    clipped = pixels - whole
    common = (pixels, left, right)
    split = (clipped, clipped * height, above * out_shape[1], below * out_shape[1])
    edges = [
        (top, bottom, first, end, row_count * column_count)
        for (top, bottom), row_count in rows.items()
        for (first, end), column_count in columns.items()
        if dilation > 1 or (top, bottom, first, end) != (0, height, 0, width)
    ]
    if in_fours:
        fours = _GatheredFours()
        if whole:
            fours.run(height, length, whole)
        for edge in edges:
            _clipped_fours(fours, edge, height, width, channels)
        return (out_shape[0], above, below, *_NO_STREAMS, *common, *split, *fours.counts)
    made = _Gathered()
    if whole:
        made.run([row * length for row in range(height)], length, whole)
    for edge in edges:
        _clipped(made, edge, height, width, channels, apart=dilation > 1)
    odd = pixels * (height * length % 2)
    return (out_shape[0], above, below, *common, odd, *split, *made.counts, *_NO_FOURS)


def streamed(trips: Trips) -> Trips:
    """The same where nothing is widened in fours, whatever the channels are."""
    found = dict(zip(CONV_TRIPS, trips, strict=True))
    for name in ("pixels", "clips_left", "clips_right", "clipped_pixels", "clipped_rows", "rows_above", "rows_below"):
        found[name] += found.pop(f"{name}_in_fours")
    found["runs"] += found["fours_runs"]
    found["run_rows"] += found["fours_rows"]
    found["run_entered"] += found["fours_rows"]
    found["run_fours"] += 4 * found["fours_sixteens"] + found["fours_singles"]
    found["fills"] += found["fours_fills"]
    found["fill_entered"] += found["fours_fills"]
    found["fill_pairs"] += 2 * found["fours_filled"]
    return tuple(0 if "fours" in name and name != "run_fours" else found[name] for name in CONV_TRIPS)


_Edge = tuple[int, int, int, int, int]  # rows inside from, to before, columns inside from, to before, how many pixels


def _clipped(made: _Gathered, edge: _Edge, height: int, width: int, channels: int, *, apart: bool) -> None:
    top, bottom, first, end, times = edge
    length = width * channels
    for row in range(height):
        at = row * length
        if not top <= row < bottom:
            made.fill(at, length, times)
            continue
        if first:
            made.fill(at, first * channels, times)
        if end > first:
            taps = range(first, end) if apart else (first,)
            made.run([at + tap * channels for tap in taps], channels if apart else (end - first) * channels, times)
        if end != width:
            made.fill(at + end * channels, (width - end) * channels, times)


def _clipped_fours(made: _GatheredFours, edge: _Edge, height: int, width: int, channels: int) -> None:
    top, bottom, first, end, times = edge
    for row in range(height):
        if not top <= row < bottom or first == end:
            made.fill(width * channels, times)
            continue
        if first:
            made.fill(first * channels, times)
        made.run(1, (end - first) * channels, times)
        if end != width:
            made.fill((width - end) * channels, times)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a depthwise convolution: the window starts `before` in front of the input."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    before: int
    dilation: int


class _Taps:
    """Adds up what depthwise.c does for one group of channels."""

    def __init__(self, rows: _Axis, columns: _Axis, channels: int) -> None:
        self._rows, self._columns, self._channels = rows, columns, channels
        self._span = (columns.kernel - 1) * columns.dilation + 1
        self.groups = self.direct_runs = self.gathers = self.gathered_rows = self.rows_outside = 0
        self.fours = self.rests = self.filled = self.few = self.runs = self.few_outputs = 0

    def count(self) -> int:
        """All rows of outputs; gives how many blocks of them there are."""
        rows, columns = self._rows, self._columns
        first = -(-columns.before // columns.stride)
        last = columns.inputs - self._span + columns.before
        end = min(0 if last < 0 else last // columns.stride + 1, columns.outputs)
        padded = first > 0 or end < columns.outputs
        never_direct = self._channels < 4 or (padded and end - first < _FEW_PIXELS)
        most = (GATHERED_WORDS // rows.kernel - self._span) // columns.stride + 1
        most = min(most, _STORED) if self._channels < 4 else most
        block = 1
        if never_direct and columns.outputs <= most and rows.dilation == 1:
            whole = (columns.outputs - 1) * columns.stride + self._span
            block = (GATHERED_WORDS // whole - rows.kernel) // rows.stride + 1
        starts = range(0, rows.outputs, block)
        for y in starts:
            top = y * rows.stride - rows.before
            inside = top >= 0 and top + (rows.kernel - 1) * rows.dilation < rows.inputs
            self.groups += 1
            if never_direct or not inside:
                self._gather(0, columns.outputs, most, top, min(block, rows.outputs - y))
            else:
                self._gather(0, first, most, top, 1)
                self.direct_runs += 1
                self._gather(end, columns.outputs, most, top, 1)
        return len(starts)

    def _gather(self, begin: int, end: int, most: int, top: int, rows: int) -> None:
        axis, columns = self._rows, self._columns
        height = (rows - 1) * axis.stride + axis.kernel
        within = sum(0 <= top + i * axis.dilation < axis.inputs for i in range(height))
        for x in range(begin, end, most):
            count = min(end - x, most)
            left, length = x * columns.stride - columns.before, (count - 1) * columns.stride + self._span
            copied = max(0, min(left + length, columns.inputs) - max(left, 0))
            self.gathers += 1
            self.gathered_rows += height
            self.rows_outside += height - within
            self.filled += height * length - within * copied
            if self._channels < 4:
                self.few += within * copied
                self.few_outputs += rows * count * self._channels
            else:
                self.fours += within * (copied // 4)
                self.rests += within * (copied % 4)
            self.runs += rows


def depthwise_trips(in_shape: Sequence[int], out_shape: Sequence[int], window: Window) -> Trips:
    """`DW_TRIPS` of a depthwise convolution from (H, W, C) to (H, W, C) with a multiplier of one."""
    if window.padding == (0, 0, 0, 0) and in_shape[2] >= 4:  # all are read where they are
        groups = out_shape[0] * -(-in_shape[2] // 4)
        return (out_shape[0], groups, groups, *(0,) * (len(DW_TRIPS) - 3))
    rows, columns = (
        _Axis(in_shape[at], out_shape[at], window.kernel[at], window.stride[at], window.padding[2 * at], dilation)
        for at, dilation in enumerate(window.spread)
    )
    taps, channels = _Taps(rows, columns, in_shape[2]), in_shape[2]
    blocks = taps.count()
    made = (
        taps.groups, taps.direct_runs, taps.gathers, taps.gathered_rows, taps.rows_outside, taps.fours, taps.rests,
        taps.filled, taps.few, taps.few * channels, taps.runs, taps.few_outputs,
    )  # fmt: skip
    return (blocks, *(count * -(-channels // 4) for count in made))


def pairs_down(out_shape: Sequence[int]) -> bool:
    """Whether a depthwise convolution of 3 x 3 makes pairs of outputs one below the other: where they are fewer so."""
    height, width = out_shape[:2]
    return half_up(height) * width < half_up(width) * height


def plane_trips(in_shape: Sequence[int], out_shape: Sequence[int], window: Window) -> Trips:
    """`PLANE_TRIPS` of a depthwise convolution of 3 x 3 from (H, W, C) to (H, W, C); no strides, no dilation."""
    along, across = (0, 1) if pairs_down(out_shape) else (1, 0)
    most, most_rows, rows = 2 * (PLANE_PAIRS - 1), PLANE_ROWS - 2, out_shape[across]
    tiles = [min(most, out_shape[along] - first) for first in range(0, out_shape[along], most)]
    bands = range(0, rows, most_rows)
    above = inside = below = spread = padding = 0
    for first in bands:
        height, top = min(most_rows, rows - first) + 2, first - window.padding[2 * across]
        before = min(max(-top, 0), height)
        within = min(max(in_shape[across] - top, before), height) - before
        above += before > 0
        inside += within > 0
        below += height - before - within > 0
        spread += within
        padding += height - within
    channels, pairs = in_shape[2], sum(map(half_up, tiles))
    groups, columns = -(-channels // 4), pairs + len(tiles)
    odd, ones = sum(count % 2 for count in tiles), tiles.count(1)
    return (
        len(bands), len(bands) * len(tiles), groups * len(bands) * len(tiles),
        (channels % 4 > 0) * len(bands) * len(tiles), groups * len(bands) * columns,
        *(groups * columns * count for count in (above, inside, below, spread, padding)),
        channels * len(bands) * len(tiles), channels * rows * len(tiles), channels * rows * odd, channels * rows * ones,
        channels * rows * pairs,
    )  # fmt: skip


def half_up(count: int) -> int:
    """Pairs that `count` things make, a single one at the end being a pair too."""
    return count // 2 + count % 2
