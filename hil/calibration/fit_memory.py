"""Fit of the memory model: what the image holds besides weights, tables and arena. Never too small.

The linker drops what a network does not use, so code is a base plus functions that come with kernel paths. Which path
brings which function is asked of the linker, kernel by kernel, where it can tell (`KernelCode`). Else it is read from
the images: a function belongs to every path whose images all have it. A path that needs a function is always among
them, so the code of a network is never undershot, also for combinations of paths that no image had; a path that is
never seen without its neighbours may be charged for a function of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hil.errors import UsageError
from hil.measure.measurement import Memory
from munas.cost.calibration import CodePart, KernelCode, Linked, LinkedSet, MemoryModel
from munas.cost.kernels import KernelVariant, align
from munas.cost.variants import same_code

_WORD_BYTES = 4  # the linker may align each function to it

_Parts = dict[frozenset[KernelVariant], int]


@dataclass(frozen=True, slots=True)
class Image:
    """One linked network: `constants` are its weights and tables as predicted, bytes; `functions` bytes by name."""

    paths: frozenset[KernelVariant]
    constants: int
    memory: Memory
    functions: Mapping[str, int]

    @property
    def code(self) -> int:
        """Measured flash besides the constants, bytes."""
        return self.memory.flash_total - self.constants

    @property
    def ram(self) -> int:
        """Measured RAM besides the arena, bytes."""
        return self.memory.ram_total - self.memory.arena_planned

    @property
    def static_ram(self) -> int:
        """Measured RAM besides arena and stack, alignment included, bytes."""
        return self.memory.ram_total - self.memory.arena_planned - self.memory.stack_reserved


def fit_memory(images: Sequence[Image], code: KernelCode | None = None, code_alignment: int = 1) -> MemoryModel:
    """The memory model of `images`, with what is known of the kernels' `code`; weights behind the code begin at
    multiples of `code_alignment`. Raises UsageError without images."""
    if not images:
        raise UsageError("no network was measured, so there is nothing to fit the memory model on")
    parts = _parts(images, code or _code_of(images))
    present = frozenset[KernelVariant]().union(*(same_code(path) for image in images for path in image.paths))
    for path in present - frozenset[KernelVariant]().union(*parts):
        parts[frozenset({path})] = 0  # all its code is in the base: known, and free
    # What is no function of a kernel: vectors, runtime, strings, alignment. It varies by a few bytes of alignment, and
    # may do so by as much again in an image that was not seen.
    rest = [image.code - sum(size for paths, size in parts.items() if paths & image.paths) for image in images]
    least = min(rest)
    for paths, size in _excess(images, rest, parts).items():
        parts[paths] = parts.get(paths, 0) + size
        rest = [left - size * bool(paths & image.paths) for image, left in zip(images, rest, strict=True)]
    most = max(least, *rest)
    return MemoryModel(
        flash_base=align(2 * most - least, max(code_alignment, _WORD_BYTES)),
        parts=tuple(CodePart(paths, size) for paths, size in sorted(parts.items(), key=lambda item: sorted(item[0]))),
        static_ram=max(image.static_ram for image in images),
        stack_reserved=max(image.memory.stack_reserved for image in images),
        stack_used=max(image.memory.stack_used for image in images),
        code_alignment=code_alignment,
        sets=_sets(images) if code_alignment > 1 else (),
    )


def _excess(images: Sequence[Image], rest: Sequence[int], parts: _Parts) -> _Parts:
    """What `rest` has beyond the least of it, bytes, by paths that no image with the least has.

    The linker aligns some libraries' code by more than a word, and code in assembly may have no size. Where a kernel
    brings that along, networks without it shall not be charged for it. Paths of the same code in `parts` go together.
    """
    least = min(rest)
    free = frozenset[KernelVariant]().union(
        *(image.paths for image, size in zip(images, rest, strict=True) if size == least)
    )
    brought = {
        path: frozenset(paths for paths in parts if path in paths) for path in frozenset[KernelVariant]().union(*parts)
    }
    excess: _Parts = {}
    for image, size in zip(images, rest, strict=True):
        own = image.paths - free
        if size > least and own:
            alike = frozenset(
                path for path in brought if path not in free and any(brought[path] == brought.get(one) for one in own)
            )
            excess[own | alike] = max(excess.get(own | alike, 0), size - least)
    return excess


def _sets(images: Sequence[Image]) -> tuple[LinkedSet, ...]:
    """What was linked for the images, by the paths of their networks; the most where they differ."""
    found: dict[frozenset[KernelVariant], Linked] = {}
    for image in images:
        known = found.get(image.paths, Linked(0, 0))
        found[image.paths] = Linked(max(known.code, image.code), max(known.ram, image.ram))
    return tuple(LinkedSet(paths, linked) for paths, linked in sorted(found.items(), key=lambda item: sorted(item[0])))


def _parts(images: Sequence[Image], code: KernelCode) -> _Parts:
    """Bytes of the functions that come with the same paths, by these paths. What every image has is not among them."""
    everywhere = set.intersection(*(set(image.functions) for image in images))
    parts: _Parts = {}
    for name in sorted({name for functions in code.values() for name in functions} - everywhere):
        paths = frozenset(path for path, functions in code.items() if name in functions)
        size = max(functions.get(name, 0) for functions in code.values())
        parts[paths] = parts.get(paths, 0) + align(size, _WORD_BYTES)
    return parts


def _code_of(images: Sequence[Image]) -> KernelCode:
    """For each path the functions that all of its kernel's images have."""
    common: dict[KernelVariant, dict[str, int]] = {}
    for image in images:
        for path in frozenset[KernelVariant]().union(*map(same_code, image.paths)):
            known = common.get(path, image.functions)
            common[path] = {name: size for name, size in known.items() if name in image.functions}
    return common
