"""Trips of the loops in which firmware/kernels gathers windows: conv.c with rows.c, and depthwise.c. Per inference.

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
    "output_rows", "clips_above", "clips_below", "pixels", "clips_left", "clips_right", "window_rows", "rows_outside",
    "runs", "run_fours", "run_shifts", "run_pairs", "run_lasts", "fills", "fill_pairs", "fill_shifts", "fill_lasts",
    "pixels_in_fours", "clips_left_in_fours", "clips_right_in_fours", "window_rows_in_fours", "rows_outside_in_fours",
    "run_eights", "run_single_fours",
)  # fmt: skip
"""Where channels are divisible by four, and not dilated, they are widened in fours; else in runs."""

DW_TRIPS = (
    "output_rows", "groups", "direct_runs", "gathers", "gathered_rows", "rows_outside", "copied_fours", "copied_rests",
    "filled", "few_pixels", "few_channels", "gathered_runs", "few_outputs",
)  # fmt: skip
"""Less than four channels are "few"."""

TAPS_WIDTH, GATHERED_WORDS = 7, 192
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
    """Adds up what rows.c does for one pixel, times how many pixels there are."""

    def __init__(self, in_fours: bool) -> None:
        self._in_fours = in_fours
        self.runs = self.fours = self.shifts = self.pairs = self.lasts = self.eights = self.single_fours = 0
        self.fills = self.fill_pairs = self.fill_shifts = self.fill_lasts = 0

    def widen(self, at: int, count: int, times: int) -> None:
        if self._in_fours:
            self.eights += times * (count // 8)
            self.single_fours += times * (count // 4 % 2)
            return
        shift = at % 2 if count else 0
        rest = count - shift
        self.runs += times
        self.shifts += times * shift
        self.fours += times * (rest // 4)
        self.pairs += times * (rest % 4 // 2)
        self.lasts += times * (rest % 2)

    def fill(self, at: int, count: int, times: int) -> None:
        shift = at % 2 if count else 0
        rest = count - shift
        self.fills += times
        self.fill_shifts += times * shift
        self.fill_pairs += times * (rest // 2)
        self.fill_lasts += times * (rest % 2)


def conv_trips(in_shape: Sequence[int], out_shape: Sequence[int], window: Window) -> Trips:
    """`CONV_TRIPS` of a convolution from (H, W, C) to (H, W, C) that gathers windows (im2col)."""
    (height, width), channels, dilation = window.kernel, in_shape[2], window.spread[1]
    in_fours = channels % 4 == 0 and dilation == 1
    if window.padding == (0, 0, 0, 0) and dilation == 1:
        return _unpadded(out_shape[0], out_shape[0] * out_shape[1], height, width * channels, in_fours)
    rows, columns = axes(in_shape, out_shape, window)
    made, length = _Gathered(in_fours), width * channels
    outside = 0
    for (top, bottom), row_count in rows.items():
        for (first, end), column_count in columns.items():
            times = row_count * column_count
            outside += times * (height - (bottom - top))
            for row in range(height):
                at = row * length
                if not top <= row < bottom:
                    made.fill(at, length, times)
                    continue
                if first:
                    made.fill(at, first * channels, times)
                step = max(end - first, 1) if dilation == 1 else 1
                for column in range(first, end, step):
                    made.widen(at + column * channels, step * channels, times)
                if end != width:
                    made.fill(at + end * channels, length - end * channels, times)
    pixels = out_shape[0] * out_shape[1]
    left = out_shape[0] * sum(first * count for (first, _), count in columns.items())
    right = out_shape[0] * sum((width - end) * count for (_, end), count in columns.items())
    by_pixel = (pixels, left, right, pixels * height, outside)
    none = (0,) * len(by_pixel)
    above = sum(top * count for (top, _), count in rows.items())
    below = sum((height - bottom) * count for (_, bottom), count in rows.items())
    pixel, left_clips, right_clips, window_rows, outside_rows = none if in_fours else by_pixel
    return (
        out_shape[0], above, below, pixel, left_clips, right_clips, window_rows, outside_rows,
        made.runs, made.fours, made.shifts, made.pairs, made.lasts,
        made.fills, made.fill_pairs, made.fill_shifts, made.fill_lasts,
        *(by_pixel if in_fours else none), made.eights, made.single_fours,
    )  # fmt: skip


def _unpadded(rows: int, pixels: int, height: int, length: int, in_fours: bool) -> Trips:
    """The same for windows of `height` runs of `length` columns each: a search asks a thousand times a second."""
    runs = pixels * height
    none = (0,) * 5
    if in_fours:
        return (rows, 0, 0, *none, *none, 0, 0, 0, 0, pixels, 0, 0, runs, 0,
                runs * (length // 8), runs * (length // 4 % 2))  # fmt: skip
    shifted = height // 2 if length % 2 else 0  # runs that begin in the middle of a pair of columns
    plain = height - shifted
    return (
        rows, 0, 0, pixels, 0, 0, runs, 0,
        runs, pixels * (plain * (length // 4) + shifted * ((length - 1) // 4)), pixels * shifted,
        pixels * (plain * (length % 4 // 2) + shifted * ((length - 1) % 4 // 2)), pixels * plain * (length % 2),
        0, 0, 0, 0, *none, 0, 0,
    )  # fmt: skip


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
