"""Loop counts that explain the time of each kernel variant; munas.cost.variants says which variant has which.

A kernel's instruction count is a sum over its loops: trips times the length of the body. The loops below are those of
firmware/kernels (1x1 convolutions, dense layers, pools, additions) and of CMSIS-NN 4.0.0 without MVE (the others): two
pixels by two rows at a time, four columns in the SIMD loop, what is left over one by one. The lengths of the bodies
depend on compiler and core; calibration measures them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from munas.cost.kernels import Work, half_up

Counts: TypeAlias = tuple[int, ...]


def _entries(times: int, trips: int) -> int:
    """How often a loop is entered that is reached `times` and skipped when it has no trips."""
    return times if trips else 0


def _product(pixels: int, rows: int, columns: int) -> Counts:
    """Loops of a matrix product in tiles of 2 pixels x 2 rows with the left-overs of both."""
    pairs, odd_pixel = divmod(pixels, 2)
    twins, odd_row = divmod(rows, 2)
    quads, rest = divmod(columns, 4)
    tiles, halves, single = pairs * twins, pairs * odd_row, odd_pixel * rows
    return (
        tiles, tiles * quads, tiles * rest, _entries(tiles, rest),
        halves, halves * quads, halves * rest,
        single, single * quads, single * rest,
    )  # fmt: skip


def _copies(work: Work, channels: int) -> Counts:
    """Loops of im2col: one call for each position of the window."""
    quads, rest = divmod(channels, 4)
    copies = work.copies
    return (1, work.pixels, copies, copies * quads, copies * rest, _entries(copies, quads), _entries(copies, rest))


def _conv_im2col(work: Work) -> Counts:
    channels = work.columns * work.pixels // work.copies
    return _copies(work, channels) + _product(work.pixels, work.rows, work.columns)


# To prepare a pair of rows of weights takes as long as to start so many rows of an image with it (counted in the
# sources). Without a stride, as in the search space, there is one row, so measuring cannot tell the two apart.
_ROW_PAIR_IN_IMAGE_ROWS = 4


def _conv_1x1(work: Work) -> Counts:
    # firmware/kernels: an odd last pixel or row is computed as a pair, so there are tiles of one kind only.
    tiles = work.blocks
    return (
        1, _ROW_PAIR_IN_IMAGE_ROWS * half_up(work.rows) + work.setup_loops, tiles,
        work.vector_loops, work.scalar_loops, _entries(tiles, work.columns % 4),
    )  # fmt: skip


def _dense(work: Work) -> Counts:
    (quads, rest), pairs = divmod(work.columns, 4), work.blocks
    return (
        1, pairs, work.vector_loops, _entries(pairs, quads), work.scalar_loops, _entries(pairs, rest), work.rows,
    )  # fmt: skip


def _dense_rows(work: Work) -> Counts:
    one = _dense(replace(work, blocks=work.blocks // work.pixels, vector_loops=work.vector_loops // work.pixels,
                         scalar_loops=work.scalar_loops // work.pixels))  # fmt: skip
    return (1, *(work.pixels * count for count in one))


# A depthwise output takes its taps and a requantisation that is worth so many of them (counted in the sources: some ten
# instructions a tap, forty for each of four requantisations). Without padding, as in the search space, taps are always
# nine, so the two cannot be told apart by measuring; padding makes taps fewer.
_REQUANTISE_IN_QUAD_TAPS = 16
_REQUANTISE_IN_TAPS = 9


def _dw_3x3(work: Work) -> Counts:
    # vector_loops and scalar_loops count window positions on the input.
    (quads, rest), pixels = divmod(work.rows, 4), work.pixels
    return (
        1, pixels,
        _REQUANTISE_IN_QUAD_TAPS * pixels * quads + work.vector_loops, _entries(pixels, quads),
        _REQUANTISE_IN_TAPS * pixels * rest + work.scalar_loops, _entries(pixels, rest),
    )  # fmt: skip


def _dw_im2col(work: Work) -> Counts:
    (quads, rest), pixels = divmod(work.rows, 4), work.pixels
    return (
        *_copies(work, work.rows),
        pixels * quads, _entries(pixels, quads), work.vector_loops, pixels * quads * (work.columns % 2),
        pixels * rest, _entries(pixels, rest), pixels * rest * work.columns,
    )  # fmt: skip


def _max_pool(work: Work) -> Counts:
    (quads, rest), pixels = divmod(work.rows, 4), work.pixels
    height = work.setup_loops // work.blocks  # of the window: setup_loops counts its rows for every block
    four, one = pixels * quads, pixels * rest
    return (1, pixels, four, four * height, work.vector_loops, one, one * height, work.scalar_loops)


def _avg_pool(work: Work) -> Counts:
    return (1, work.pixels, work.blocks, work.setup_loops, work.scalar_loops)


def _add(work: Work) -> Counts:
    return (1, work.pixels, work.blocks, work.outputs, work.inputs)


def _any(work: Work) -> Counts:
    return (1, work.pixels, work.copies, work.blocks, work.vector_loops, work.scalar_loops, work.inputs, work.outputs)


_COPY_NAMES = ("calls", "pixels", "copies", "copy_quads", "copy_rests", "copy_quads_entries", "copy_rests_entries")
_PRODUCT_NAMES = (
    "tiles", "tile_quads", "tile_rests", "tile_rests_entries",
    "half_tiles", "half_tile_quads", "half_tile_rests",
    "odd_pixel", "odd_pixel_quads", "odd_pixel_rests",
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
CONV_IM2COL = Loops((*_COPY_NAMES, *_PRODUCT_NAMES), _conv_im2col)
CONV_1X1 = Loops(("calls", "image_rows", "tiles", "tile_quads", "tile_rests", "tile_rests_entries"), _conv_1x1)
DW_3X3 = Loops(("calls", "pixels", "quad_taps", "quads_entries", "rest_taps", "rests_entries"), _dw_3x3)
DW_IM2COL = Loops(
    (
        *_COPY_NAMES, "quads", "quads_entries", "quad_tap_pairs", "quad_odd_taps", "rests", "rests_entries",
        "rest_taps",
    ),
    _dw_im2col,
)  # fmt: skip
DENSE = Loops(
    ("calls", "row_pairs", "pair_quads", "pair_quads_entries", "pair_rests", "pair_rests_entries", "rows"), _dense
)
DENSE_ROWS = Loops(("layers", *DENSE.names), _dense_rows)
MAX_POOL = Loops(
    ("calls", "pixels", "quads", "quad_rows", "quad_positions", "rests", "rest_rows", "rest_positions"), _max_pool
)
AVG_POOL = Loops(("calls", "pixels", "outputs", "rows", "positions"), _avg_pool)
ADD = Loops(("calls", "pixels", "blocks", "outputs", "inputs"), _add)
