"""Loop counts that explain the time of each kernel variant; munas.cost.variants says which variant has which.

A kernel's instruction count is a sum over its loops: trips times the length of the body. The loops below are those of
firmware/kernels, and of CMSIS-NN 4.0.0 without MVE (dw-mult4, dw-generic). Kernels that call one another's loops have
them in common, each with its own beside. The lengths of the bodies depend on compiler and core; calibration measures
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from munas.cost.gathers import CONV_TRIPS, DW_TRIPS, PLANE_TRIPS, half_up
from munas.cost.kernels import Work

Counts: TypeAlias = tuple[int, ...]


def _quads(work: Work) -> Counts:
    # Two pixels at a time are multiplied with four rows at a time; the loop over pairs of columns takes four a trip.
    pairs, columns = half_up(work.pixels), work.columns
    return (
        pairs if work.rows >= 4 else 0,
        work.blocks, work.vector_loops, work.blocks * ((columns // 2 + 3) // 4), work.blocks * (columns % 2),
        work.setup_loops,
    )  # fmt: skip


def _rests(work: Work) -> Counts:
    # Two rows and one that are left.
    pairs, columns = half_up(work.pixels), work.columns
    twos, ones = pairs * (work.rows % 4 // 2), pairs * (work.rows % 2)
    return (
        work.pixels % 2, pairs if work.rows % 4 else 0,
        twos, twos * (columns // 2), twos * (columns % 2),
        ones, ones * (columns // 4), ones * (columns % 4 // 2), ones * (columns % 2),
    )  # fmt: skip


def _among(place: int, counts: Counts, size: int) -> Counts:
    """`counts` at `place` of `size` tuples as long, zeros in the others: loops that one of several kernels has."""
    none = (0,) * len(counts)
    return tuple(count for at in range(size) for count in (counts if at == place else none))


def _conv(place: int) -> Callable[[Work], Counts]:
    def counts(work: Work) -> Counts:
        return (1, *work.trips, *_rests(work), *_among(place, _quads(work), len(_QUAD_KERNELS)))

    return counts


def _pointwise(work: Work) -> Counts:
    # A pixel is widened sixteen columns at a time, then four, then two and one that are left.
    pixels, columns = work.pixels, work.columns
    fours, rests = divmod(columns, 4)
    entered = half_up(pixels) if work.rows >= 4 and columns > 1 else 0  # loops of four rows that have a pair of columns
    return (
        1, work.trips[0], pixels,
        pixels if fours else 0,
        pixels if fours >= 4 else 0, pixels * (fours // 4), pixels if fours % 4 else 0, pixels * (fours % 4),
        pixels if rests else 0, pixels * (rests // 2), pixels * (rests % 2), entered, *_rests(work), *_quads(work),
    )  # fmt: skip


def _dense_layer(work: Work, scaled: bool) -> Counts:
    # Four rows at a time, then two and one that are left; four columns of four rows are entered in goes.
    quads, columns = work.blocks, work.columns
    twos, ones, fours = work.rows % 4 // 2, work.rows % 2, columns // 4
    return (
        1, quads, quads if scaled else 0, work.setup_loops, work.vector_loops, quads * ((fours + 3) // 4),
        quads * (columns % 4 // 2), quads * (columns % 2), quads * (columns % 4 == 3),
        twos, twos * fours, twos * (columns % 4 // 2), twos * (columns % 2),
        ones, ones * fours, ones * (columns % 4), twos * 2 + ones, work.unsure,
    )  # fmt: skip


def _dense(scaled: bool) -> Callable[[Work], Counts]:
    return lambda work: _dense_layer(work, scaled)


def _dense_rows(scaled: bool) -> Callable[[Work], Counts]:
    def counts(work: Work) -> Counts:
        rows = work.pixels
        one = replace(work, blocks=work.blocks // rows, vector_loops=work.vector_loops // rows,
                      scalar_loops=work.scalar_loops // rows, setup_loops=work.setup_loops // rows,
                      unsure=work.unsure // rows)  # fmt: skip
        return (1, *(rows * count for count in _dense_layer(one, scaled)))

    return counts


def _dw(place: int) -> Callable[[Work], Counts]:
    # Groups of four channels: `blocks` pixels of them, with `scalar_loops` rows of taps, in runs.
    def counts(work: Work) -> Counts:
        trips = dict(zip(DW_TRIPS, work.trips, strict=True))
        runs = trips["direct_runs"] + trips["gathered_runs"]
        own = (runs, work.blocks, work.scalar_loops, work.vector_loops)
        return (1, *work.trips, *_among(place, own, len(_TAP_KERNELS)))

    return counts


def _planes(work: Work) -> Counts:
    clamped = work.copies + work.setup_loops
    return (1, *work.trips[len(DW_TRIPS) :], int(clamped > 0), work.copies, work.setup_loops)


def _dw_direct(work: Work) -> Counts:
    return (1, *work.trips, work.pixels, work.copies, work.blocks, work.setup_loops, work.scalar_loops)


def _max_pool(work: Work) -> Counts:
    (quads, rest), pixels = divmod(work.rows, 4), work.pixels
    height = work.setup_loops // (quads + rest)  # rows of all windows: setup_loops counts them for every block
    return (
        1,
        pixels,
        pixels * quads,
        height * quads,
        work.vector_loops,
        pixels * rest,
        height * rest,
        work.scalar_loops,
    )


def _avg_pool(work: Work) -> Counts:
    return (1, work.pixels, work.blocks, work.setup_loops, work.scalar_loops)


def _add(work: Work) -> Counts:
    # Runs of one kind: those that have fours are `copies`, those that have single ones `setup_loops`.
    return (
        1, work.pixels, work.blocks, work.copies, work.vector_loops, work.setup_loops, work.scalar_loops,
    )  # fmt: skip


def _lstm(work: Work) -> Counts:
    return (1, work.pixels, work.blocks, work.copies, work.vector_loops, work.scalar_loops, work.setup_loops)


def _grouped(work: Work) -> Counts:
    # Taps beyond the input are skipped, which padding makes of many or few; the others are a call with products in it.
    return (1, work.pixels, work.outputs, work.blocks, work.vector_loops, work.scalar_loops)


def _transposed(work: Work) -> Counts:
    # Rows and taps between two input pixels are skipped.
    return (
        1,
        work.pixels,
        work.outputs,
        work.setup_loops,
        work.blocks,
        work.copies,
        work.vector_loops,
        work.scalar_loops,
    )


def _svdf(work: Work) -> Counts:
    return (1, work.pixels, work.blocks, work.vector_loops, work.scalar_loops, work.copies)


def _wide_conv(work: Work) -> Counts:
    return (
        1, work.pixels, work.outputs, work.setup_loops, work.copies, work.blocks, work.vector_loops, work.scalar_loops,
    )  # fmt: skip


def _wide_dense(work: Work) -> Counts:
    return (1, work.pixels, work.outputs, work.vector_loops, work.scalar_loops)


def _any(work: Work) -> Counts:
    return (1, work.pixels, work.copies, work.blocks, work.vector_loops, work.scalar_loops, work.inputs, work.outputs)


def _move(work: Work) -> Counts:
    # pixels counts the runs that have single bytes at their end, setup_loops those that have words, blocks the words of
    # the whole output.
    return (
        1, work.copies, work.setup_loops, work.vector_loops, work.pixels, work.scalar_loops, work.blocks,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loops:
    """A kernel's loops: their names, and their trips for one layer's work, in the same order."""

    names: tuple[str, ...]
    counts: Callable[[Work], Counts]


ANY = Loops(
    ("calls", "pixels", "copies", "blocks", "vector_loops", "scalar_loops", "inputs", "outputs"),
    _any,
)
_RESTS = (
    "single_pixels", "rest_runs", "twos", "two_pairs", "two_odd_columns",
    "ones", "one_quads", "one_pairs", "one_odd_columns",
)  # fmt: skip
_QUADS = ("quad_runs", "quads", "quad_pairs", "quad_trips", "quad_odd_columns", "quad_goes")
_QUAD_KERNELS = ("packed", "any")  # they are called by the same function, which has all other loops
_CONV_NAMES = ("calls", *CONV_TRIPS, *_RESTS, *(f"{kernel}_{name}" for kernel in _QUAD_KERNELS for name in _QUADS))
CONV_IM2COL, CONV_ANY = (Loops(_CONV_NAMES, _conv(place)) for place in range(len(_QUAD_KERNELS)))
CONV_1X1 = Loops(
    (
        "calls", "output_rows", "pixels", "calls_for_fours", "in_sixteens", "sixteens", "in_fours", "single_fours",
        "rests", "rest_pairs", "rest_lasts", "entered", *_RESTS, *_QUADS,
    ),
    _pointwise,
)  # fmt: skip
_TAP_KERNELS = ("plain", "any")
_TAPS = ("runs", "quads", "quad_rows", "quad_taps")
_DW_NAMES = ("calls", *DW_TRIPS, *(f"{kernel}_{name}" for kernel in _TAP_KERNELS for name in _TAPS))
DW, DW_ANY = (Loops(_DW_NAMES, _dw(place)) for place in range(len(_TAP_KERNELS)))
DW_3X3 = Loops(("calls", *PLANE_TRIPS, "clamps", "clamped_fours", "clamped_singles"), _planes)
DW_DIRECT = Loops(
    (
        "calls", "output_rows", "dilated_rows", "dilated_columns", "pixels", "channels", "blocks", "window_rows",
        "positions",
    ),
    _dw_direct,
)  # fmt: skip
_DENSE_NAMES = (
    "calls", "quads", "scaled_quads", "goes", "quad_fours", "quad_trips", "quad_pairs", "quad_odd_columns",
    "quad_pairs_and_odd", "twos", "two_fours", "two_pairs", "two_odd_columns", "ones", "one_fours", "one_rests",
    "single_outputs", "unsure",
)  # fmt: skip
# "scaled": each row has a scale of its own.
DENSE, DENSE_SCALED = (Loops(_DENSE_NAMES, _dense(scaled)) for scaled in (False, True))
DENSE_ROWS, DENSE_ROWS_SCALED = (Loops(("layers", *_DENSE_NAMES), _dense_rows(scaled)) for scaled in (False, True))
MAX_POOL = Loops(
    ("calls", "pixels", "quads", "quad_rows", "quad_positions", "rests", "rest_rows", "rest_positions"), _max_pool
)
AVG_POOL = Loops(("calls", "pixels", "outputs", "rows", "positions"), _avg_pool)
ADD = Loops(("calls", "pixels", "blocks", "four_runs", "fours", "single_runs", "singles"), _add)
LSTM = Loops(("calls", "steps", "cells", "cell_bits", "fours", "pairs", "odd_columns"), _lstm)
SVDF = Loops(("calls", "units", "filters", "fours", "rests", "memories"), _svdf)
GROUPED = Loops(("calls", "pixels", "outputs", "taps", "taps_inside", "products"), _grouped)
TRANSPOSED = Loops(
    ("calls", "pixels", "outputs", "rows", "taps", "taps_in_rows", "taps_inside", "products"), _transposed
)
WIDE_CONV = Loops(("calls", "pixels", "outputs", "rows", "taps", "inside", "fours", "rests"), _wide_conv)
WIDE_DENSE = Loops(("calls", "inputs", "outputs", "fours", "rests"), _wide_dense)
MOVE = Loops(("calls", "runs", "word_runs", "words", "byte_runs", "bytes", "output_words"), _move)
