"""What the installed headers of TFLM say: which operators its resolver takes, and which kernels they are registered to.

Both change from year to year, so they are read and not known.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

RESOLVER = "tensorflow/lite/micro/micro_mutable_op_resolver.h"
_KERNELS = "tensorflow/lite/micro/kernels"
# TfLiteStatus AddConv2D(const TFLMRegistration& registration = Register_CONV_2D()) {
#   return AddBuiltin(BuiltinOperator_CONV_2D, registration, ParseConv2D);
_ADDER = re.compile(r"TfLiteStatus\s+(Add\w+)\s*\(([^{;]*)\)\s*\{([^}]*)\}", re.DOTALL)
_BUILTIN = re.compile(r"AddBuiltin\(\s*BuiltinOperator_(\w+)")
_CUSTOM = re.compile(r"AddCustom\(\s*\"([^\"]+)\"")
_REGISTRATION = re.compile(r"\bRegister_[A-Z0-9_]+\b")
_MANGLED = re.compile(r"_ZN6tflite(\d+[a-z]\w*?)?\d+(Register_[A-Z0-9_]+)Ev")


@dataclass(frozen=True, slots=True)
class Registry:
    """`adders`: the resolver's methods by operator, `builtin` are those of the schema; `registrations`: names of all
    kernels (``Register_ADD_INT8``); `needed` are those that the resolver itself speaks of."""

    adders: Mapping[str, str]
    builtin: frozenset[str]
    registrations: frozenset[str]
    needed: frozenset[str]


@functools.lru_cache(maxsize=4)
def read_registry(root: Path) -> Registry:
    """What the headers in the include folder `root` have. Raises OSError."""
    text = (root / RESOLVER).read_text(encoding="utf-8", errors="replace")
    return Registry(
        read_adders(root), frozenset(_BUILTIN.findall(text)), read_registrations(root), _named([root / RESOLVER])
    )


def read_adders(root: Path) -> Mapping[str, str]:
    """The resolver's method for each operator that TFLM registers, by the schema's name (``CONV_2D``); custom operators
    that TFLM brings along by theirs. Raises OSError."""
    text = (root / RESOLVER).read_text(encoding="utf-8", errors="replace")
    found = {}
    for method, _, body in _ADDER.findall(text):
        named = _BUILTIN.search(body) or _CUSTOM.search(body)
        if named is not None:
            found[named[1]] = method
    return found


def read_registrations(root: Path) -> frozenset[str]:
    """Names of the registrations (``Register_CONV_2D_INT8``) that the kernels' headers and the resolver speak of.

    Raises OSError.
    """
    return _named([root / RESOLVER, *sorted((root / _KERNELS).glob("*.h"))])


def _named(files: Iterable[Path]) -> frozenset[str]:
    return frozenset(
        name for file in files for name in _REGISTRATION.findall(file.read_text(encoding="utf-8", errors="replace"))
    )


def linked_registrations(symbols: frozenset[str]) -> frozenset[str]:
    """Names of the registrations among the symbols of a library."""
    return frozenset(found[2] for found in map(_MANGLED.fullmatch, symbols) if found)


def own_registrations(symbols: frozenset[str]) -> frozenset[str]:
    """As `linked_registrations`, without those of signal processing, which have headers of their own."""
    return frozenset(found[2] for found in map(_MANGLED.fullmatch, symbols) if found and not found[1])
