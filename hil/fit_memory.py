"""Fit of the memory model: what the image holds besides weights, tables and arena. Never too small.

The linker drops what a network does not use, so code is a base plus functions that come with kernel paths. Which path
brings which function is read from the images: a function belongs to every path whose images all have it. A path that
needs a function is always among them, so the code of a network is never undershot, also for combinations of paths that
no image had; one that is never seen without its neighbours may be charged for a function of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hil.errors import UsageError
from hil.measurement import Memory
from munas.calibration import CodePart, MemoryModel
from munas.kernels import Path, align

_WORD_BYTES = 4  # the linker may align each function to it

_Parts = dict[frozenset[Path], int]


@dataclass(frozen=True, slots=True)
class Image:
    """One linked network: `constants` are its weights and tables as predicted, bytes; `functions` bytes by name."""

    paths: frozenset[Path]
    constants: int
    memory: Memory
    functions: Mapping[str, int]

    @property
    def code(self) -> int:
        """Measured flash besides the constants, bytes."""
        return self.memory.flash_total - self.constants

    @property
    def static_ram(self) -> int:
        """Measured RAM besides arena and stack, alignment included, bytes."""
        return self.memory.ram_total - self.memory.arena_planned - self.memory.stack_reserved


def fit_memory(images: Sequence[Image]) -> MemoryModel:
    """The memory model of `images`. Raises UsageError without images."""
    if not images:
        raise UsageError("no network was measured, so there is nothing to fit the memory model on")
    parts = _parts(images)
    present = frozenset[Path]().union(*(image.paths for image in images))
    for path in present - frozenset[Path]().union(*parts):
        parts[frozenset({path})] = 0  # all its code is in the base: known, and free
    # What is no function of a kernel: vectors, runtime, strings, alignment. It varies by a few bytes of alignment, and
    # may do so by as much again in an image that was not seen.
    rest = [image.code - sum(size for paths, size in parts.items() if paths & image.paths) for image in images]
    return MemoryModel(
        flash_base=align(2 * max(rest) - min(rest), _WORD_BYTES),
        parts=tuple(CodePart(paths, size) for paths, size in sorted(parts.items(), key=lambda item: sorted(item[0]))),
        static_ram=max(image.static_ram for image in images),
        stack_reserved=max(image.memory.stack_reserved for image in images),
        stack_used=max(image.memory.stack_used for image in images),
    )


def _parts(images: Sequence[Image]) -> _Parts:
    """Bytes of the functions that come with the same paths, by these paths. What every image has is not among them."""
    sizes: dict[str, int] = {}
    for image in images:
        for name, size in image.functions.items():
            sizes[name] = max(size, sizes.get(name, 0))
    common: dict[Path, set[str]] = {}
    for image in images:
        for path in image.paths:
            common[path] = common[path] & image.functions.keys() if path in common else set(image.functions)
    parts: _Parts = {}
    for name, size in sizes.items():
        if all(name in image.functions for image in images):
            continue
        paths = frozenset(path for path, names in common.items() if name in names)
        if paths:  # else its user is not a kernel; what it adds is in the base
            parts[paths] = parts.get(paths, 0) + align(size, _WORD_BYTES)
    return parts
