"""The one table of kernel variants: what the firmware, the planner and the estimators know of each.

A row names the C function and the struct that describes a layer to it (both in firmware/kernels/hil_kernels.h, which
asserts the struct's size), the loops whose trips explain its time, and the constants that it keeps in flash. Variants
that enter the same function have the same code; whoever asks what code a network links asks `same_code`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from munas.cost import loops
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import KernelVariant, Work, align
from munas.cost.loops import Counts, Loops
from munas.cost.operators import work_of

if TYPE_CHECKING:
    from munas.arch.graph import Operator

STEP_BYTES = 8
"""Flash that a step takes in the table of steps, besides its own table."""

PART_BYTES = 8
"""Flash for each input of a CONCATENATION, besides its table."""

Constants = Callable[[int, int], int]
"""(number of weights, number of rows) -> bytes of a layer's constants in flash, aligned."""


def _no_constants(weights: int, rows: int) -> int:
    return 0


def _one_scale(weights: int, rows: int) -> int:
    """Weights, a bias a row, one scale of two words."""
    return align(weights) + 4 * rows + 8


def _rows_in_groups(weights: int, rows: int) -> int:
    """Weights; for each row a bias and a multiplier; for each group of rows (fours, a two, a one) a word of shifts."""
    return align(weights) + 8 * rows + 4 * (rows // 4 + (rows % 4).bit_count())


def _taps_in_groups(weights: int, rows: int) -> int:
    """For each four channels, or what is left of them: weights, four biases and multipliers, and a word of shifts."""
    return -(-rows // 4) * (4 * (weights // rows) + 36)


def _scale_a_row(weights: int, rows: int) -> int:
    """Weights, and for each row a bias and two words of scale."""
    return align(weights) + 12 * rows


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One kernel variant.

    `function` and `struct` are C names; `struct_bytes` is what a layer's table takes in flash. `loops` counts the trips
    that its time is fitted on. `constants` gives the bytes of weights, biases and scales. `made_by` says whose inner
    loop runs. `in_space` says whether networks of the µNAS space use it. `costs_as` names the variant with which it
    has loops in common, all or some: their coefficients are fitted together.
    """

    function: str
    struct: str
    struct_bytes: int
    loops: Loops = loops.ANY
    constants: Constants = _no_constants
    made_by: Literal["ours", "cmsis-nn"] = "ours"
    in_space: bool = False
    costs_as: KernelVariant | None = None


def _conv(function: str, counted: Loops, constants: Constants = _scale_a_row, **more: object) -> KernelSpec:
    return KernelSpec(function, "hil_conv_t", 44, counted, constants, **more)  # type: ignore[arg-type]


def _binary(function: str) -> KernelSpec:
    return KernelSpec(function, "hil_binary_t", 80)


def _wide_binary(function: str) -> KernelSpec:
    return KernelSpec(function, "hil_wide_binary_t", 80)


def _reduction(function: str) -> KernelSpec:
    return KernelSpec(function, "hil_reduce_t", 48)


SPECS: Mapping[KernelVariant, KernelSpec] = {
    KernelVariant.CONV_1X1: _conv("hil_conv_1x1", loops.CONV_1X1, _rows_in_groups, in_space=True),
    KernelVariant.CONV_IM2COL: _conv("hil_conv_im2col", loops.CONV_IM2COL, _rows_in_groups, in_space=True),
    KernelVariant.CONV_ANY: _conv("hil_conv_any", loops.CONV_ANY, _rows_in_groups, costs_as=KernelVariant.CONV_IM2COL),
    KernelVariant.DW_3X3: KernelSpec("hil_dw_3x3", "hil_dw_3x3_t", 36, loops.DW_3X3, _taps_in_groups, in_space=True),
    KernelVariant.DW: _conv("hil_dw", loops.DW, _taps_in_groups, in_space=True),
    KernelVariant.DW_ANY: _conv("hil_dw_any", loops.DW_ANY, _taps_in_groups, costs_as=KernelVariant.DW),
    KernelVariant.DW_MULT4: _conv("hil_dw_generic", loops.DW_DIRECT, made_by="cmsis-nn"),
    KernelVariant.DW_GENERIC: _conv("hil_dw_generic", loops.DW_DIRECT, made_by="cmsis-nn"),
    KernelVariant.FC: KernelSpec("hil_dense", "hil_dense_t", 28, loops.DENSE, _one_scale, in_space=True),
    KernelVariant.FC_PER_CHANNEL: KernelSpec(
        "hil_dense", "hil_dense_t", 28, loops.DENSE_SCALED, _scale_a_row, in_space=True, costs_as=KernelVariant.FC
    ),
    KernelVariant.FC_ANY: KernelSpec("hil_dense_any", "hil_dense_t", 28, loops.DENSE, _scale_a_row),
    KernelVariant.MAX_POOL: KernelSpec("hil_max_pool", "hil_pool_t", 32, loops.MAX_POOL, in_space=True),
    KernelVariant.AVG_POOL: KernelSpec("hil_avg_pool", "hil_pool_t", 32, loops.AVG_POOL, in_space=True),
    KernelVariant.ADD: KernelSpec("hil_add", "hil_add_t", 32, loops.ADD, in_space=True),
    KernelVariant.ADD_PADDED: KernelSpec("hil_add_padded", "hil_add_padded_t", 52, loops.ADD, in_space=True),
    KernelVariant.PAD: KernelSpec("hil_pad", "hil_pad_t", 28, loops.MOVE),
    KernelVariant.MEAN: KernelSpec("hil_mean", "hil_mean_t", 24),
    KernelVariant.SOFTMAX: KernelSpec("hil_softmax", "hil_softmax_t", 24),
    KernelVariant.RELU: KernelSpec("hil_requantize", "hil_requantize_t", 24),
    KernelVariant.CONCAT: KernelSpec("hil_concat", "hil_concat_t", 16, loops.MOVE),
    KernelVariant.REQUANTIZE: KernelSpec("hil_requantize", "hil_requantize_t", 24),
    KernelVariant.LOOKUP: KernelSpec("hil_lookup", "hil_lookup_t", 16),
    KernelVariant.COPY: KernelSpec("hil_copy", "hil_copy_t", 44),
    KernelVariant.SELECT: KernelSpec("hil_select", "hil_select_t", 28),
    KernelVariant.ADD_BROADCAST: _binary("hil_add_broadcast"),
    KernelVariant.SUB: _binary("hil_sub"),
    KernelVariant.MUL: _binary("hil_mul"),
    KernelVariant.MAXIMUM: _binary("hil_maximum"),
    KernelVariant.MINIMUM: _binary("hil_minimum"),
    KernelVariant.PRELU: _binary("hil_prelu"),
    KernelVariant.SUM: _reduction("hil_sum"),
    KernelVariant.REDUCE_MAX: _reduction("hil_reduce_max"),
    KernelVariant.REDUCE_MIN: _reduction("hil_reduce_min"),
    KernelVariant.FC_ROWS_ANY: KernelSpec("hil_dense_rows_any", "hil_dense_rows_t", 32, loops.DENSE_ROWS, _scale_a_row),
    KernelVariant.FC_ROWS: KernelSpec("hil_dense_rows", "hil_dense_rows_t", 32, loops.DENSE_ROWS, _one_scale),
    KernelVariant.FC_PER_CHANNEL_ROWS: KernelSpec(
        "hil_dense_rows", "hil_dense_rows_t", 32, loops.DENSE_ROWS_SCALED, _scale_a_row, costs_as=KernelVariant.FC_ROWS
    ),
    KernelVariant.CONV_GROUPED: KernelSpec("hil_conv_grouped", "hil_grouped_t", 48, loops.GROUPED, _scale_a_row),
    KernelVariant.CONV_TRANSPOSED: _conv("hil_conv_transposed", loops.TRANSPOSED),
    KernelVariant.RESIZE_BILINEAR: KernelSpec("hil_resize_bilinear", "hil_resize_t", 28),
    KernelVariant.LSTM: KernelSpec("hil_lstm", "hil_lstm_t", 84, loops.LSTM),
    KernelVariant.SVDF: KernelSpec("hil_svdf", "hil_svdf_t", 44, loops.SVDF),
    KernelVariant.LOG_SOFTMAX: KernelSpec("hil_log_softmax", "hil_log_softmax_t", 28),
    KernelVariant.SOFTMAX_TO_16: KernelSpec("hil_softmax_to_16", "hil_softmax_t", 24),
    KernelVariant.WIDE_CONV: KernelSpec("hil_wide_conv", "hil_wide_conv_t", 44, loops.WIDE_CONV),
    KernelVariant.WIDE_FC: KernelSpec("hil_wide_dense", "hil_wide_dense_t", 28, loops.WIDE_DENSE),
    KernelVariant.WIDE_ADD: _wide_binary("hil_wide_add"),
    KernelVariant.WIDE_SUB: _wide_binary("hil_wide_sub"),
    KernelVariant.WIDE_MUL: _wide_binary("hil_wide_mul"),
    KernelVariant.WIDE_MAXIMUM: _wide_binary("hil_wide_maximum"),
    KernelVariant.WIDE_MINIMUM: _wide_binary("hil_wide_minimum"),
    KernelVariant.WIDE_SUM: _reduction("hil_wide_sum"),
    KernelVariant.WIDE_REDUCE_MAX: _reduction("hil_wide_reduce_max"),
    KernelVariant.WIDE_REDUCE_MIN: _reduction("hil_wide_reduce_min"),
    KernelVariant.WIDE_RESIZE_BILINEAR: KernelSpec("hil_wide_resize_bilinear", "hil_resize_t", 28),
    KernelVariant.WIDE_MAX_POOL: KernelSpec("hil_wide_max_pool", "hil_wide_pool_t", 36),
    KernelVariant.WIDE_AVG_POOL: KernelSpec("hil_wide_avg_pool", "hil_wide_pool_t", 36),
    KernelVariant.WIDE_LOGISTIC: KernelSpec("hil_wide_logistic", "hil_wide_function_t", 24),
    KernelVariant.WIDE_TANH: KernelSpec("hil_wide_tanh", "hil_wide_function_t", 24),
    KernelVariant.WIDE_SOFTMAX: KernelSpec("hil_wide_softmax", "hil_wide_softmax_t", 24),
    KernelVariant.WIDE_REQUANTIZE: KernelSpec("hil_wide_requantize", "hil_wide_requantize_t", 24),
}


_ALL: Mapping[KernelVariant, KernelSpec] = {
    **SPECS,
    **{
        variant: KernelSpec(f"hil_operator_{operator}", "", 0, Loops(names, attrgetter("trips")))
        for variant, (operator, names) in INTERPRETED.items()
    },
}


def loop_names(variant: KernelVariant) -> tuple[str, ...]:
    """Names of the counts that `loop_counts` gives for `variant`, in order."""
    return _ALL[variant].loops.names


def loop_counts(work: Work) -> Counts:
    """Trips of every loop of the work's kernel in one inference."""
    return _ALL[work.variant].loops.counts(work)


def cost_leader(variant: KernelVariant) -> KernelVariant:
    """The variant whose costs are those of `variant`: itself, or the one that it costs as."""
    return _ALL[variant].costs_as or variant


@cache
def same_cost(variant: KernelVariant) -> frozenset[KernelVariant]:
    """The variants that share their costs with `variant`, itself included: they are fitted together."""
    leader = cost_leader(variant)
    return frozenset(other for other, spec in _ALL.items() if (spec.costs_as or other) is leader)


@cache
def known_by(variant: KernelVariant) -> frozenset[KernelVariant]:
    """The variants whose cost is known where that of `variant` is: those that have the very same loops."""
    spec = _ALL[variant]
    return frozenset(other for other in same_cost(variant) if _ALL[other].loops is spec.loops)


@cache
def same_code(variant: KernelVariant) -> frozenset[KernelVariant]:
    """The variants that one function serves: what is known of the code of one is known of the others'."""
    return frozenset(other for other, spec in _ALL.items() if spec.function == _ALL[variant].function)


def layer_bytes(variant: KernelVariant, parts: int = 0) -> int:
    """Flash that one layer takes in tables: its struct, its step, and the list of its `parts` inputs."""
    return SPECS[variant].struct_bytes + STEP_BYTES + PART_BYTES * parts


def constant_bytes(variant: KernelVariant, weights: int, rows: int) -> int:
    """Flash for a layer's weights (`weights` elements) and its biases and multipliers (`rows` outputs), aligned."""
    return SPECS[variant].constants(weights, rows)


def flash_bytes(operator: Operator) -> tuple[int, int]:
    """(weights, tables): what a graph's operator adds to the image besides code, in bytes."""
    work = work_of(operator)
    return constant_bytes(work.variant, work.columns * work.rows, work.rows), layer_bytes(work.variant)
