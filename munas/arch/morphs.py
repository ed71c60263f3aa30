"""Morphisms: the small changes by which µNAS' evolution makes a child out of an architecture.

A morph is data: what it changes, and a function that makes the child. Some draw random values (which block goes, the
attributes of a new layer) when they are applied; which morphs apply does not depend on chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from munas.arch.space import (
    KERNEL_SIZES,
    MAX_BLOCKS,
    MAX_DENSE_LAYERS,
    MAX_FILTERS,
    MAX_LAYERS_PER_BLOCK,
    MAX_MLP_LAYERS,
    MAX_UNITS,
    MIN_UNITS,
    POOL_SIZES,
    AnyArchitecture,
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    Pooling,
    PoolType,
    draw_choice,
    draw_integer,
    random_block,
    random_dense,
    random_layer,
    random_pooling,
)

if TYPE_CHECKING:
    from numpy.random import Generator

FILTER_STEPS = UNIT_STEPS = (-5, -3, -1, 1, 3, 5)
MLP_UNIT_STEPS = (-5, -1, 1, 5)
KERNEL_STEPS = POOL_STEPS = (-2, 2)
FAR_SHARES = (0.0, 0.15, 0.4)

_SIZE_CHANGE = re.compile(r"(filters|units) [+-](\d+)$")

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Morph(Generic[T]):
    """One change: what it is, and how the changed thing is made, drawing from the generator what is left open."""

    change: str
    apply: Callable[[Generator], T]


def morphs(architecture: AnyArchitecture) -> list[Morph[AnyArchitecture]]:
    """All morphs of an architecture that apply, in a fixed order."""
    if isinstance(architecture, MlpArchitecture):
        return [*_mlp_morphs(architecture)]
    return [*_block_list_morphs(architecture), *_block_morphs(architecture), *_tail_morphs(architecture)]


def random_child(architecture: AnyArchitecture, rng: Generator) -> AnyArchitecture:
    """A child by a morph drawn uniformly from all that apply."""
    return draw_choice(rng, morphs(architecture)).apply(rng)


def far_child(architecture: AnyArchitecture, rng: Generator) -> AnyArchitecture:
    """A child by a morph drawn uniformly. One of a number of filters or units is done once, or until it has changed
    that number by a share of it drawn from `FAR_SHARES`: by single steps a way through the space takes for ever, and by
    steps of one size narrow layers lose all of their channels."""
    morph, share = draw_choice(rng, morphs(architecture)), draw_choice(rng, FAR_SHARES)
    child = morph.apply(rng)
    for _ in range(_times(architecture, morph.change, share) - 1):
        again = next((other for other in morphs(child) if other.change == morph.change), None)
        if again is None:
            break
        child = again.apply(rng)
    return child


def _times(architecture: AnyArchitecture, change: str, share: float) -> int:
    """How often a morph has to be done to change a number of filters or units by a share of it; 1 for all others."""
    found = _SIZE_CHANGE.search(change)
    if found is None:
        return 1
    indices = [int(index) for index in re.findall(r"\[(\d+)\]", change)]
    if isinstance(architecture, MlpArchitecture):
        size = architecture.units[indices[0]]
    elif found[1] == "filters":
        size = architecture.blocks[indices[0]].layers[indices[1]].filters
    else:
        size = architecture.dense[indices[0]].units
    return max(1, round(share * size / int(found[2])))


def _fixed(change: str, child: T) -> Morph[T]:
    """A morph that leaves nothing to chance."""
    return Morph(change, lambda rng: child)


def _within(where: str, changes: Iterable[Morph[T]], place: Callable[[T], U]) -> Iterator[Morph[U]]:
    """Morphs of a part as morphs of the whole; `place` puts the changed part where it belongs."""

    def lifted(apply: Callable[[Generator], T]) -> Callable[[Generator], U]:
        return lambda rng: place(apply(rng))

    for morph in changes:
        yield Morph(f"{where}: {morph.change}", lifted(morph.apply))


def _replaced(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])


def _steps(name: str, value: int, steps: Iterable[int], low: int, high: int) -> Iterator[tuple[str, int]]:
    """(change, new value) for each step that stays within low..high."""
    for step in steps:
        if low <= value + step <= high:
            yield f"{name} {step:+d}", value + step


# ------------------------------------------------------------------------------------------- blocks


def _block_list_morphs(parent: Architecture) -> Iterator[Morph[AnyArchitecture]]:
    blocks = parent.blocks
    if len(blocks) > 1:
        yield Morph("remove a block", lambda rng: _without_block(parent, draw_integer(rng, 0, len(blocks) - 1)))
    if len(blocks) < MAX_BLOCKS:
        yield Morph(
            "append a block",
            lambda rng: replace(parent, blocks=(*blocks, random_block(rng, may_branch=True, max_layers=1))),
        )


def _without_block(parent: Architecture, index: int) -> Architecture:
    """Remove a block. A branch that follows a removed main block takes its place."""
    blocks = list(parent.blocks)
    removed = blocks.pop(index)
    if not removed.is_branch and index < len(blocks):
        blocks[index] = replace(blocks[index], is_branch=False)
    return replace(parent, blocks=tuple(blocks))


def _block_morphs(parent: Architecture) -> Iterator[Morph[AnyArchitecture]]:
    """Morphs of each block; those that change its layers follow those that change the block."""

    def placed(index: int) -> Callable[[Block], AnyArchitecture]:
        return lambda block: replace(parent, blocks=_replaced(parent.blocks, index, block))

    for index, block in enumerate(parent.blocks):
        where = f"conv_blocks[{index}]"
        if index > 0:
            toggled = replace(block, is_branch=not block.is_branch)
            yield from _within(where, [_fixed("toggle branch", toggled)], placed(index))
        if len(block.layers) == 1 and len(parent.blocks) > 1:
            yield _fixed(f"{where}: remove", _without_block(parent, index))
        yield from _within(where, _layer_list_morphs(block), placed(index))
        yield from _within(where, _layer_morphs(block), placed(index))


def _layer_list_morphs(block: Block) -> Iterator[Morph[Block]]:
    layers = block.layers

    def removed(rng: Generator) -> Block:
        index = draw_integer(rng, 0, len(layers) - 1)
        return replace(block, layers=layers[:index] + layers[index + 1 :])

    def inserted(rng: Generator) -> Block:
        index = draw_integer(rng, 0, len(layers) - 1)  # before a layer, so that the last one stays the last
        return replace(block, layers=(*layers[:index], random_layer(rng), *layers[index:]))

    if len(layers) > 1:
        yield Morph("remove a layer", removed)
    if len(layers) < MAX_LAYERS_PER_BLOCK:
        yield Morph("insert a layer", inserted)


# ------------------------------------------------------------------------------------------- layers


def _layer_morphs(block: Block) -> Iterator[Morph[Block]]:
    def placed(index: int) -> Callable[[Layer], Block]:
        return lambda layer: replace(block, layers=_replaced(block.layers, index, layer))

    for index, layer in enumerate(block.layers):
        yield from _within(f"layers[{index}]", _layer_changes(layer), placed(index))


@lru_cache(4096)  # the same few layers come again with each child that is tried
def _layer_changes(layer: Layer) -> tuple[Morph[Layer], ...]:
    return (*_switches(layer), *_type_changes(layer), *_size_changes(layer))


def _switches(layer: Layer) -> Iterator[Morph[Layer]]:
    yield _fixed("toggle batch norm", replace(layer, batch_norm=not layer.batch_norm))
    yield _fixed("toggle ReLU", replace(layer, relu=not layer.relu))
    yield _fixed("toggle pre-pool", replace(layer, pre_pool=not layer.pre_pool))
    if layer.type is not LayerType.POINTWISE:
        yield _fixed("toggle stride", replace(layer, stride=3 - layer.stride))


def _type_changes(layer: Layer) -> Iterator[Morph[Layer]]:
    def redrawn(kind: LayerType) -> Callable[[Generator], Layer]:
        return lambda rng: random_layer(rng, kind)

    for kind in LayerType:
        if kind is not layer.type:
            yield Morph(f"change to {kind}", redrawn(kind))


def _size_changes(layer: Layer) -> Iterator[Morph[Layer]]:
    if layer.type is not LayerType.DEPTHWISE:
        for change, filters in _steps("filters", layer.filters, FILTER_STEPS, 1, MAX_FILTERS):
            yield _fixed(change, replace(layer, filters=filters))
    if layer.type is not LayerType.POINTWISE:
        for change, kernel in _steps("kernel", layer.kernel, KERNEL_STEPS, min(KERNEL_SIZES), max(KERNEL_SIZES)):
            yield _fixed(change, replace(layer, kernel=kernel))


# --------------------------------------------------------------------------------------- tail, MLP


def _tail_morphs(parent: Architecture) -> Iterator[Morph[AnyArchitecture]]:
    def with_pooling(pooling: Pooling | None) -> AnyArchitecture:
        return replace(parent, pooling=pooling)

    def with_dense(layers: tuple[DenseLayer, ...]) -> AnyArchitecture:
        return replace(parent, dense=layers)

    yield from _within("pooling", _pooling_morphs(parent.pooling), with_pooling)
    yield from _within("dense_blocks", _dense_morphs(parent.dense), with_dense)


def _pooling_morphs(pooling: Pooling | None) -> Iterator[Morph[Pooling | None]]:
    if pooling is None:
        yield Morph("add", random_pooling)
        return
    yield _fixed("remove", None)
    yield _fixed("toggle type", replace(pooling, type=PoolType.MAX if pooling.type is PoolType.AVG else PoolType.AVG))
    for change, size in _steps("size", pooling.size, POOL_STEPS, min(POOL_SIZES), max(POOL_SIZES)):
        yield _fixed(change, replace(pooling, size=size))


def _dense_morphs(layers: tuple[DenseLayer, ...]) -> Iterator[Morph[tuple[DenseLayer, ...]]]:
    def removed(rng: Generator) -> tuple[DenseLayer, ...]:
        index = draw_integer(rng, 0, len(layers) - 1)
        return layers[:index] + layers[index + 1 :]

    if len(layers) > 1:
        yield Morph("remove a layer", removed)
    if len(layers) < MAX_DENSE_LAYERS:
        yield Morph("append a layer", lambda rng: (*layers, random_dense(rng)))
    for index, layer in enumerate(layers):
        for change, units in _steps("units", layer.units, UNIT_STEPS, MIN_UNITS, MAX_UNITS):
            yield _fixed(f"[{index}] {change}", _replaced(layers, index, replace(layer, units=units)))


def _mlp_morphs(parent: MlpArchitecture) -> Iterator[Morph[AnyArchitecture]]:
    layers = parent.units

    def removed(rng: Generator) -> AnyArchitecture:
        index = draw_integer(rng, 0, len(layers) - 1)
        return MlpArchitecture(layers[:index] + layers[index + 1 :])

    if len(layers) > 1:
        yield Morph("remove a layer", removed)
    if len(layers) < MAX_MLP_LAYERS:
        yield Morph("append a layer", lambda rng: MlpArchitecture((*layers, random_dense(rng).units)))
    for index, units in enumerate(layers):
        for change, changed in _steps("units", units, MLP_UNIT_STEPS, MIN_UNITS, MAX_UNITS):
            yield _fixed(f"[{index}] {change}", MlpArchitecture(_replaced(layers, index, changed)))
