"""Kernels of an interpreter (TensorFlow Lite Micro with its CMSIS-NN, without MVE): the loops that explain their time.

`Work.trips` of such a variant has one count for each name here, in order (hil.runtimes.tflm.work makes them). The first
count, `calls`, is what the interpreter does for an operator whatever its size.
"""

from __future__ import annotations

from collections.abc import Mapping

from munas.cost.kernels import KernelVariant


def _inner(of: str) -> tuple[str, ...]:
    """Names of an inner loop, four a trip, and of what is left: how often each is entered, its trips."""
    return (f"{of}_with_fours", f"{of}_fours", f"{of}_with_ones", f"{of}_ones")


def _wide(of: str) -> tuple[str, ...]:
    """The same with sixteen a trip before the fours."""
    return (f"{of}_with_sixteens", f"{of}_sixteens", *_inner(of))


def _copies(of: str) -> tuple[str, ...]:
    """Names of the parts of memcpy (newlib's for Armv7-M)."""
    blocks = (f"{of}_{part}" for part in ("with_blocks", "blocks", "with_rows", "rows", "with_words", "words"))
    return (of, *blocks, f"{of}_with_rest", f"{of}_bytes", f"{of}_halves")


INTERPRETED: Mapping[KernelVariant, tuple[str, tuple[str, ...]]] = {
    KernelVariant.TFLM_CONV: (
        "CONV_2D",
        (
            "calls",
            "output_rows",
            "pixels",
            "window_rows",
            *_copies("copies"),
            "fills",
            "filled_bytes",
            *_inner("widened"),
            "pixel_pairs",
            "squares",
            *_inner("square"),
            "last_rows",
            *_inner("last_row"),
            "last_pixel",
            "last_pixel_rows",
            *_inner("last_pixel"),
        ),
    ),
    KernelVariant.TFLM_CONV_1X1: (
        "CONV_2D",
        (
            "calls",
            "goes",
            "row_pairs",
            "summed_columns",
            "squares",
            *_wide("square"),
            "last_pixels",
            *_wide("last_pixel"),
            "last_row",
            "last_row_pixels",
            "last_row_columns",
            "last_row_summed",
        ),
    ),
    KernelVariant.TFLM_DW_3X3: (
        "DEPTHWISE_CONV_2D",
        (
            "calls",
            "output_rows",
            "pixels",
            "quads",
            "quad_rows",
            "quad_lefts",
            "quad_rights",
            "rests",
            "rest_rows",
            "rest_lefts",
            "rest_rights",
        ),
    ),
    KernelVariant.TFLM_DW: (
        "DEPTHWISE_CONV_2D",
        (
            "calls",
            "output_rows",
            "pixels",
            "window_rows",
            "copies",
            *_inner("copied"),
            "fills",
            "filled_bytes",
            "row_fills",
            "row_filled_bytes",
            "with_quads",
            "quads",
            "quad_pairs",
            "quad_ones",
            "with_rests",
            "rests",
            "rest_taps",
        ),
    ),
    KernelVariant.TFLM_DW_ANY: (
        "DEPTHWISE_CONV_2D",
        ("calls", "output_rows", "pixels", "outputs", "window_rows", "positions"),
    ),
    KernelVariant.TFLM_FC: (
        "FULLY_CONNECTED",
        ("calls", "row_pairs", *_inner("row_pair"), "last_row", *_inner("last_row")),
    ),
    KernelVariant.TFLM_FC_PER_CHANNEL: (
        "FULLY_CONNECTED",
        ("calls", "row_pairs", *_inner("row_pair"), "last_row", *_inner("last_row")),
    ),
    KernelVariant.TFLM_MAX_POOL: (
        "MAX_POOL_2D",
        (
            "calls",
            "output_rows",
            "pixels",
            "window_rows",
            *_copies("firsts"),
            "positions",
            *_inner("position"),
            *_inner("clamped"),
        ),
    ),
    KernelVariant.TFLM_AVG_POOL: (
        "AVERAGE_POOL_2D",
        ("calls", "output_rows", "pixels", "window_rows", "positions", "summed", "outputs"),
    ),
    KernelVariant.TFLM_ADD: ("ADD", ("calls", *_inner("sum"))),
    KernelVariant.TFLM_PAD: ("PAD", ("calls", "rows", "copied_bytes", "filled_rows", "filled_bytes")),
    KernelVariant.TFLM_RESHAPE: ("RESHAPE", ("calls", *_copies("copies"))),
    KernelVariant.TFLM_MEAN: ("MEAN", ("calls", "inputs", "outputs")),
    KernelVariant.TFLM_SOFTMAX: ("SOFTMAX", ("calls", "rows", "inputs")),
    KernelVariant.TFLM_RELU: ("RELU", ("calls", "inputs")),
    KernelVariant.TFLM_RELU6: ("RELU6", ("calls", "inputs")),
    KernelVariant.TFLM_QUANTIZE: ("QUANTIZE", ("calls", "inputs")),
    KernelVariant.TFLM_CONCAT: ("CONCATENATION", ("calls", "copies", "copied_bytes")),
    KernelVariant.TFLM_OTHER: ("", ("calls", "outputs")),
}
"""For each variant the operator that it serves, by the schema's name, and the names of its counts."""
