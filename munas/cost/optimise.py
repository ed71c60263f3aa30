"""Which kernels a network takes where it may have faster or smaller ones: the choice behind `--optimise`.

`speed` takes the fastest kernel of every layer. `balanced` and `size` do as long as the code of all of a network's
kernels stays within a limit; else they take those within the limit that cost the fewest cycles more. `size` compiles
all kernels for size as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from munas.cost.kernels import KernelVariant, Work, conv_any, dense_any, depthwise_plain
from munas.cost.plain import grouped_like


class Optimise(StrEnum):
    """What the planner is asked for."""

    SPEED = "speed"
    BALANCED = "balanced"
    SIZE = "size"


RUNTIME_CODE = 7_500
"""Bytes of code without any kernel; never less than it takes on any target."""

CODE_LIMITS: Mapping[str, int] = {Optimise.BALANCED: 16_384, Optimise.SIZE: 12_288}
"""Bytes of code that a network may have in all, if there are kernels of so few; `speed` has no limit."""

LIMITS: Mapping[str, int] = {optimise: limit - RUNTIME_CODE for optimise, limit in CODE_LIMITS.items()}
"""Bytes of them that are left for the kernels."""

_V = KernelVariant
KERNEL_CODE: tuple[tuple[frozenset[KernelVariant], int, int], ...] = (
    (frozenset({_V.CONV_1X1}), 116, 112),
    (frozenset({_V.CONV_1X1, _V.CONV_IM2COL}), 1104, 1104),
    (frozenset({_V.CONV_1X1, _V.CONV_IM2COL, _V.CONV_ANY}), 1072, 912),
    (frozenset({_V.CONV_IM2COL}), 392, 328),
    (frozenset({_V.CONV_IM2COL, _V.CONV_ANY}), 640, 552),
    (frozenset({_V.CONV_ANY}), 312, 372),
    (frozenset({_V.DW_3X3}), 1340, 1196),
    (frozenset({_V.DW}), 560, 560),
    (frozenset({_V.DW, _V.DW_ANY}), 1548, 1204),
    (frozenset({_V.DW_ANY}), 336, 284),
    (frozenset({_V.FC, _V.FC_PER_CHANNEL, _V.FC_ANY}), 584, 560),
    (frozenset({_V.FC, _V.FC_PER_CHANNEL}), 1372, 1304),
    (frozenset({_V.FC_ANY}), 636, 532),
    (frozenset({_V.MAX_POOL}), 212, 184),
    (frozenset({_V.MAX_POOL, _V.AVG_POOL}), 168, 140),
    (frozenset({_V.AVG_POOL}), 180, 140),
    (frozenset({_V.ADD}), 40, 40),
    (frozenset({_V.ADD, _V.ADD_PADDED}), 464, 324),
    (frozenset({_V.ADD_PADDED}), 308, 260),
    (frozenset({_V.CONV_GROUPED}), 576, 448),
)
"""Kernels, and bytes of the code that comes with any of them: with `balanced`, with `size`."""


@dataclass(frozen=True, slots=True)
class _Smaller:
    """What `to` makes of a layer's work; `loss` is what that costs in all, in cycles of a Cortex-M4."""

    variant: KernelVariant
    to: Callable[[Work], Work]
    loss: Callable[[Work], float]


# Cycles are round figures of `make bench-kernels`: they only decide between choices that fit.
_DEPTHWISE = (
    _Smaller(_V.DW, depthwise_plain, lambda work: 80 * work.blocks if work.variant is _V.DW_3X3 else 0),
    _Smaller(_V.CONV_GROUPED, grouped_like, lambda work: 9 * work.macs),
)
_FULL = (
    _Smaller(_V.CONV_ANY, conv_any, lambda work: 1.5 * work.macs),
    _Smaller(_V.CONV_GROUPED, grouped_like, lambda work: 9 * work.macs),
)
_DENSE = (_Smaller(_V.FC_ANY, dense_any, lambda work: 1.5 * work.macs + 30 * work.outputs),)

_FAMILIES: tuple[tuple[frozenset[KernelVariant], tuple[_Smaller, ...]], ...] = (
    (frozenset({_V.DW_3X3, _V.DW}), _DEPTHWISE),
    (frozenset({_V.CONV_1X1, _V.CONV_IM2COL}), _FULL),
    (frozenset({_V.FC, _V.FC_PER_CHANNEL}), _DENSE),
)
"""Kernels that step down together, and what they have to step down to."""


def kernel_code(variants: Iterable[KernelVariant], optimise: Optimise = Optimise.BALANCED) -> int:
    """Bytes of code that kernels bring along; those that the µNAS space does not have count as nothing."""
    present = frozenset(variants)
    return sum(
        small if optimise is Optimise.SIZE else usual for needed_by, usual, small in KERNEL_CODE if needed_by & present
    )


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Kernels that gave way to a smaller one: `saved` bytes of code, for about `cycles` more of a Cortex-M4."""

    kernels: tuple[KernelVariant, ...]
    by: KernelVariant
    saved: int
    cycles: float

    def to_json(self) -> dict[str, Any]:
        """For JSON documents."""
        kernels = [kernel.value for kernel in self.kernels]
        return {"kernels": kernels, "by": self.by.value, "code_bytes": self.saved, "cycles": round(self.cycles)}

    def __str__(self) -> str:
        text = f"{', '.join(self.kernels)} gave way to {self.by}"
        return f"{text}: {self.saved:,} bytes of code less, for about {self.cycles:,.0f} cycles (of a Cortex-M4) more"


def specialised(works: Sequence[Work], optimise: Optimise) -> tuple[Work, ...]:
    """`works`, all by their fastest kernels, by those that a network of them gets."""
    return choice(works, optimise)[0]


def choice(works: Sequence[Work], optimise: Optimise) -> tuple[tuple[Work, ...], tuple[GivenUp, ...]]:
    """The same, and what was given up for it."""
    variants = frozenset(work.variant for work in works)
    if optimise is Optimise.SPEED or kernel_code(variants, optimise) <= LIMITS[optimise]:
        return tuple(works), ()
    present = [(family, smaller) for family, smaller in _FAMILIES if family & variants]
    options = (
        _Option.of(works, present, chosen) for chosen in itertools.product(*((None, *few) for _, few in present))
    )
    best = min(options, key=lambda option: (max(option.code(optimise) - LIMITS[optimise], 0), option.loss))
    to = {variant: smaller.to for family, smaller in best.taken for variant in family}
    return (
        tuple(to[work.variant](work) if work.variant in to else work for work in works),
        tuple(_given_up(works, family, smaller, best.variants, optimise) for family, smaller in best.taken),
    )


_Taken = tuple[frozenset[KernelVariant], _Smaller]


@dataclass(frozen=True, slots=True)
class _Option:
    """Families that step down, what that costs, and the kernels that are left."""

    taken: tuple[_Taken, ...]
    loss: float
    variants: frozenset[KernelVariant]

    def code(self, optimise: Optimise) -> int:
        return kernel_code(self.variants, optimise)

    @staticmethod
    def of(
        works: Sequence[Work],
        present: Sequence[tuple[frozenset[KernelVariant], tuple[_Smaller, ...]]],
        chosen: Sequence[_Smaller | None],
    ) -> _Option:
        taken = tuple(
            (family, smaller) for (family, _), smaller in zip(present, chosen, strict=True) if smaller is not None
        )
        variants = frozenset(work.variant for work in works)
        for family, smaller in taken:
            variants = (variants - family) | {smaller.variant}
        return _Option(taken, sum(_loss(works, family, smaller) for family, smaller in taken), variants)


def _loss(works: Iterable[Work], family: frozenset[KernelVariant], smaller: _Smaller) -> float:
    return sum(smaller.loss(work) for work in works if work.variant in family)


def _given_up(
    works: Sequence[Work],
    family: frozenset[KernelVariant],
    smaller: _Smaller,
    left: frozenset[KernelVariant],
    optimise: Optimise,
) -> GivenUp:
    gone = tuple(sorted(family & {work.variant for work in works} - {smaller.variant}))
    saved = kernel_code(left | set(gone), optimise) - kernel_code(left, optimise)
    return GivenUp(gone, smaller.variant, saved, _loss(works, family, smaller))
