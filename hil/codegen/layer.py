"""A layer as the firmware sees it: a kernel, its table of constants, and arrays in flash. All of it numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from munas.cost import kernels
from munas.cost.kernels import KernelVariant, Work

KERNELS: dict[KernelVariant, tuple[str, str]] = {
    KernelVariant.CONV_1X1: ("hil_conv_1x1", "hil_conv_t"),
    KernelVariant.CONV_1X1_STRIDED: ("hil_conv_1x1", "hil_conv_t"),
    KernelVariant.CONV_IM2COL: ("hil_conv_im2col", "hil_conv_t"),
    KernelVariant.DW_3X3: ("hil_dw_3x3", "hil_conv_t"),
    KernelVariant.DW_IM2COL: ("hil_dw_im2col", "hil_conv_t"),
    KernelVariant.DW_MULT4: ("hil_dw_generic", "hil_conv_t"),
    KernelVariant.DW_GENERIC: ("hil_dw_generic", "hil_conv_t"),
    KernelVariant.FC: ("hil_dense", "hil_dense_t"),
    KernelVariant.FC_PER_CHANNEL: ("hil_dense", "hil_dense_t"),
    KernelVariant.MAX_POOL: ("hil_max_pool", "hil_pool_t"),
    KernelVariant.AVG_POOL: ("hil_avg_pool", "hil_pool_t"),
    KernelVariant.ADD: ("hil_add", "hil_add_t"),
    KernelVariant.ADD_PADDED: ("hil_add_padded", "hil_add_padded_t"),
    KernelVariant.PAD: ("hil_pad", "hil_pad_t"),
    KernelVariant.MEAN: ("hil_mean", "hil_mean_t"),
    KernelVariant.SOFTMAX: ("hil_softmax", "hil_softmax_t"),
    KernelVariant.RELU: ("hil_requantize", "hil_requantize_t"),
    KernelVariant.CONCAT: ("hil_concat", "hil_concat_t"),
    KernelVariant.REQUANTIZE: ("hil_requantize", "hil_requantize_t"),
}


@dataclass(frozen=True, slots=True)
class Arena:
    """A field that points into the arena: tensor `storage`, or (None) the layer's scratch."""

    storage: int | None


@dataclass(frozen=True, slots=True)
class ConstantOf:
    """A field that points to the layer's constant `role`."""

    role: str


Value = int | tuple[int, ...] | Arena | ConstantOf


@dataclass(frozen=True, slots=True)
class Constant:
    """An array in flash: `values` are C-ordered elements of `dtype` ("int8_t" or "int32_t"), `size_bytes` with fill."""

    role: str
    dtype: str
    values: bytes
    comment: str

    @property
    def size_bytes(self) -> int:
        """Bytes in flash; arrays are filled up to whole words."""
        return kernels.align(len(self.values))


@dataclass(frozen=True, slots=True)
class Layer:
    """A C function and the table that it gets. `parts` are the inputs of a CONCATENATION: (storage, bytes of a run)."""

    kernel: str
    table: str
    fields: tuple[tuple[str, Value], ...]
    constants: tuple[Constant, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()

    def renumbered(self, numbers: Mapping[int, int]) -> Layer:
        """The same layer with other numbers for storage."""
        fields = tuple((name, _renumbered(value, numbers)) for name, value in self.fields)
        return replace(self, fields=fields, parts=tuple((numbers[storage], size) for storage, size in self.parts))


def _renumbered(value: Value, numbers: Mapping[int, int]) -> Value:
    return Arena(numbers[value.storage]) if isinstance(value, Arena) and value.storage is not None else value


@dataclass(frozen=True, slots=True)
class Lowered:
    """A layer and what is known of its cost. `in_place` are the inputs whose memory the output may take over."""

    layer: Layer
    work: Work
    in_place: tuple[int, ...] = ()

    @property
    def table_bytes(self) -> int:
        """Flash for the layer's table, its parts and its entry in the table of steps."""
        parts = kernels.CONCAT_PART_BYTES * len(self.layer.parts)
        return kernels.TABLE_BYTES[self.work.path] + kernels.STEP_BYTES + parts
