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


def _conv(work: Work) -> Counts:
    # Two pixels at a time are widened, then multiplied with four rows at a time, then with two and one that are left.
    pairs, columns = half_up(work.pixels), work.columns
    twos, ones = pairs * (work.rows % 4 // 2), pairs * (work.rows % 2)
    fills = work.im2col_bytes // 2 - work.inputs
    return (
        1, pairs, work.pixels, work.copies, work.setup_loops, work.scalar_loops, fills,
        work.blocks, work.vector_loops, work.blocks * ((columns // 2 + 3) // 4), work.blocks * (columns % 2),
        twos, twos * (columns // 2), twos * (columns % 2),
        ones, ones * (columns // 4), ones * (columns % 4 // 2), ones * (columns % 2),
    )  # fmt: skip


def _dense(work: Work) -> Counts:
    # Four rows at a time, then two and one that are left; four columns of four rows are entered in goes.
    quads, columns = work.blocks, work.columns
    twos, ones = work.rows % 4 // 2, work.rows % 2
    return (
        1, quads, work.setup_loops, work.vector_loops, quads * (columns % 4 // 2), quads * (columns % 2),
        twos, twos * (columns // 4), twos * (columns % 4), ones, ones * (columns // 4), ones * (columns % 4), work.rows,
    )  # fmt: skip


def _dense_rows(work: Work) -> Counts:
    rows = work.pixels
    one = _dense(replace(work, blocks=work.blocks // rows, vector_loops=work.vector_loops // rows,
                         scalar_loops=work.scalar_loops // rows, setup_loops=work.setup_loops // rows))  # fmt: skip
    return (1, *(work.pixels * count for count in one))


def _dw(work: Work) -> Counts:
    # Groups of four channels of a row's pixels: those of `setup_loops` runs, `copies` of which are gathered first.
    return (
        1, work.setup_loops, work.blocks, work.scalar_loops, work.vector_loops, work.copies, work.im2col_bytes // 4,
    )  # fmt: skip


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
    return (1, work.pixels, work.blocks, work.vector_loops, work.scalar_loops)


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
CONV = Loops(
    (
        "calls", "pixel_pairs", "pixels", "copies", "copy_quads", "copy_rests", "fills",
        "quads", "quad_pairs", "quad_trips", "quad_odd_columns",
        "twos", "two_pairs", "two_odd_columns",
        "ones", "one_quads", "one_pairs", "one_odd_columns",
    ),
    _conv,
)  # fmt: skip
DW = Loops(("calls", "runs", "quads", "quad_rows", "quad_taps", "gathers", "gathered_words"), _dw)
DENSE = Loops(
    (
        "calls", "quads", "goes", "quad_fours", "quad_pairs", "quad_odd_columns",
        "twos", "two_fours", "two_rests", "ones", "one_fours", "one_rests", "rows",
    ),
    _dense,
)  # fmt: skip
DENSE_ROWS = Loops(("layers", *DENSE.names), _dense_rows)
MAX_POOL = Loops(
    ("calls", "pixels", "quads", "quad_rows", "quad_positions", "rests", "rest_rows", "rest_positions"), _max_pool
)
AVG_POOL = Loops(("calls", "pixels", "outputs", "rows", "positions"), _avg_pool)
ADD = Loops(("calls", "pixels", "blocks", "fours", "singles"), _add)
MOVE = Loops(("calls", "runs", "word_runs", "words", "byte_runs", "bytes", "output_words"), _move)
